// The scenarios, played by the JavaScript SDK's client of A2A 0.3: `node play_js03.mjs ORIGIN TRANSPORT HOOK GRPC_ADDRESS`.

import { randomUUID } from 'node:crypto';
import { credentials, InterceptingCall } from '@grpc/grpc-js';
import {
  ClientFactory,
  DefaultAgentCardResolver,
  JsonRpcTransportFactory,
  RestTransportFactory,
  ServiceParameters,
  withA2AExtensions,
} from 'a2a-js-0.3/client';
import { GrpcTransportFactory } from 'a2a-js-0.3/client/grpc';
import { play, told } from './scenarios.mjs';

const [origin, binding, hook, grpcAddress] = process.argv.slice(2);

// Names the agent in gRPC, whose 0.3 has no other place for it.
const named = (agent) => (options, next) =>
  new InterceptingCall(next(options), {
    start(metadata, listener, start) {
      metadata.set('a2a-tenant', agent);
      start(metadata, listener);
    },
  });

const transports = {
  JSONRPC: () => new JsonRpcTransportFactory(),
  'HTTP+JSON': () => new RestTransportFactory(),
  GRPC: (agent) =>
    new GrpcTransportFactory({
      grpcChannelCredentials: credentials.createInsecure(),
      grpcCallOptions: { interceptors: [named(agent)] },
    }),
};

function taskView({ id, contextId, status, artifacts = [], history = [] }) {
  return {
    id,
    contextId,
    state: status.state,
    text: artifacts.map((artifact) => told(artifact.parts)).join(''),
    history: history.map((message) => told(message.parts)),
    asked: told(status.message?.parts ?? []),
  };
}

function eventView(event) {
  if (event.kind === 'task') return { task: event };
  if (event.kind === 'status-update') {
    const parts = event.status.message?.parts ?? [];
    const tool = parts.find((part) => part.kind === 'data')?.data.type;
    return { state: event.status.state, progress: told(parts), tool, final: event.final };
  }
  return { id: event.artifact.artifactId, append: event.append === true, text: told(event.artifact.parts) };
}

const configView = ({ taskId, pushNotificationConfig }) => ({ taskId, ...pushNotificationConfig });

class Caller {
  constructor(client) {
    this.client = client;
  }

  params(text, { contextId, taskId, later } = {}) {
    const parts = text ? [{ kind: 'text', text }] : [];
    const message = { kind: 'message', messageId: randomUUID(), role: 'user', parts, contextId, taskId };
    return { message, configuration: { blocking: !later } };
  }

  async send(text, more) {
    return taskView(await this.client.sendMessage(this.params(text, more)));
  }

  async *stream(text, extensions) {
    const options = extensions.length ? { serviceParameters: ServiceParameters.create(withA2AExtensions(...extensions)) } : {};
    for await (const event of this.client.sendMessageStream(this.params(text), options)) yield eventView(event);
  }

  async *resubscribe(id) {
    for await (const event of this.client.resubscribeTask({ id })) yield eventView(event);
  }

  async get(id) {
    return taskView(await this.client.getTask({ id }));
  }

  async cancel(id) {
    return taskView(await this.client.cancelTask({ id }));
  }

  push = {
    set: async ({ taskId, ...pushNotificationConfig }) =>
      configView(await this.client.setTaskPushNotificationConfig({ taskId, pushNotificationConfig })),
    get: async (id, pushNotificationConfigId) =>
      configView(await this.client.getTaskPushNotificationConfig({ id, pushNotificationConfigId })),
    list: async (id) => (await this.client.listTaskPushNotificationConfig({ id })).map(configView),
    remove: (id, pushNotificationConfigId) => this.client.deleteTaskPushNotificationConfig({ id, pushNotificationConfigId }),
  };
}

async function client(card, agent) {
  const factory = new ClientFactory({ transports: [transports[binding](agent)], preferredTransports: [binding] });
  return new Caller(await factory.createFromAgentCard(card));
}

const card = await new DefaultAgentCardResolver().resolve(`${origin}/agents/echo/.well-known/agent-card.json`, '');
card.additionalInterfaces = [...(card.additionalInterfaces ?? []), { transport: 'GRPC', url: grpcAddress }];
const away = JSON.parse(JSON.stringify(card).replaceAll('/agents/echo', '/agents/nobody'));
const shown = [card.name, card.capabilities.streaming, card.capabilities.pushNotifications];
console.log(JSON.stringify(await play(await client(card, 'echo'), await client(away, 'nobody'), shown, hook)));
