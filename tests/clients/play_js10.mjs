// The scenarios, played by the JavaScript SDK's client of A2A 1.0: `node play_js10.mjs ORIGIN BINDING HOOK`.

import { randomUUID } from 'node:crypto';
import { credentials } from '@grpc/grpc-js';
import { SendMessageRequest, StreamResponse, Task, TaskPushNotificationConfig } from 'a2a-js-1.0';
import {
  ClientFactory,
  DefaultAgentCardResolver,
  JsonRpcTransportFactory,
  RestTransportFactory,
  ServiceParameters,
  withA2AExtensions,
} from 'a2a-js-1.0/client';
import { GrpcTransportFactory } from 'a2a-js-1.0/client/grpc';
import { play, told } from './scenarios.mjs';

const [origin, binding, hook] = process.argv.slice(2);
const transports = {
  JSONRPC: () => new JsonRpcTransportFactory(),
  'HTTP+JSON': () => new RestTransportFactory(),
  GRPC: () => new GrpcTransportFactory({ grpcChannelCredentials: credentials.createInsecure() }),
};

function taskView(task) {
  const { id, contextId, status, artifacts = [], history = [] } = Task.toJSON(task);
  return {
    id,
    contextId,
    state: stateView(status),
    text: artifacts.map((artifact) => told(artifact.parts)).join(''),
    history: history.map((message) => told(message.parts)),
    asked: told(status.message?.parts ?? []),
  };
}

const stateView = (status) => status.state.replace('TASK_STATE_', '').replace('_', '-').toLowerCase();

function eventView(event) {
  const { task, statusUpdate, artifactUpdate } = StreamResponse.toJSON(event);
  if (task) return { task };
  if (statusUpdate) {
    const parts = statusUpdate.status.message?.parts ?? [];
    const tool = parts.find((part) => part.data)?.data.type;
    return { state: stateView(statusUpdate.status), progress: told(parts), tool, final: null };
  }
  const { artifact, append = false } = artifactUpdate;
  return { id: artifact.artifactId, append, text: told(artifact.parts) };
}

class Caller {
  constructor(client) {
    this.client = client;
  }

  request(text, { contextId, taskId, later } = {}) {
    const message = { messageId: randomUUID(), role: 'ROLE_USER', parts: text ? [{ text }] : [], contextId, taskId };
    return SendMessageRequest.fromJSON({ message, configuration: { returnImmediately: later === true } });
  }

  async send(text, more) {
    return taskView(await this.client.sendMessage(this.request(text, more)));
  }

  async *stream(text, extensions) {
    const options = extensions.length ? { serviceParameters: ServiceParameters.create(withA2AExtensions(...extensions)) } : {};
    for await (const event of this.client.sendMessageStream(this.request(text), options)) yield eventView(event);
  }

  async *resubscribe(id) {
    for await (const event of this.client.resubscribeTask({ id, tenant: '' })) yield eventView(event);
  }

  async get(id) {
    return taskView(await this.client.getTask({ id, tenant: '' }));
  }

  async cancel(id) {
    return taskView(await this.client.cancelTask({ id, tenant: '', metadata: undefined }));
  }

  push = {
    set: (config) => this.client.createTaskPushNotificationConfig(TaskPushNotificationConfig.fromJSON(config)),
    get: (taskId, id) => this.client.getTaskPushNotificationConfig({ taskId, id, tenant: '' }),
    list: async (taskId) => (await this.client.listTaskPushNotificationConfig({ taskId, tenant: '', pageSize: 0, pageToken: '' })).configs,
    remove: (taskId, id) => this.client.deleteTaskPushNotificationConfig({ taskId, id, tenant: '' }),
  };
}

async function client(card) {
  const factory = new ClientFactory({ transports: [transports[binding]()], preferredTransports: [binding] });
  return new Caller(await factory.createFromAgentCard(card));
}

const card = await new DefaultAgentCardResolver().resolve(`${origin}/agents/echo/.well-known/agent-card.json`, '');
const away = structuredClone(card);
for (const found of away.supportedInterfaces) {
  found.url = found.url.replace('/agents/echo', '/agents/nobody');
  found.tenant = found.tenant && 'nobody';
}
const shown = [card.name, card.capabilities.streaming, card.capabilities.pushNotifications];
console.log(JSON.stringify(await play(await client(card), await client(away), shown, hook)));
