// The scenarios, for any client: what it can do is handed in, what was found is given back as JSON.
//
//   send(text, {contextId, taskId, later}), get(id), cancel(id)   a task: {id, contextId, state, text, history, asked}
//   stream(text, extensions), resubscribe(id)    events: {task} or {state, progress, tool, final} or {id, append, text}
//   push: set(config), get, list, remove                          configs: {taskId, id, url}

const TOOL_EVENTS = 'https://switchboard.dev/extensions/tool-events/v1';
const HANGS = 'N=1 SLEEPTOOL=600';

export async function play(caller, nobody, card, hook) {
  const sent = await caller.send('N=3');
  const followUp = await caller.send('N=1', { contextId: sent.contextId });
  return {
    card,
    send: [sent.state, sent.text, sent.history],
    get: JSON.stringify(await caller.get(sent.id)) === JSON.stringify(sent),
    'follow up': [followUp.contextId === sent.contextId, followUp.id === sent.id, followUp.text],
    stream: await stream(caller, []),
    'stream with tool events': await stream(caller, [TOOL_EVENTS]),
    cancel: await cancel(caller),
    resubscribe: await resubscribe(caller),
    question: await question(caller),
    push: await push(caller, hook),
    errors: {
      'no such task': await refused(caller.get('tsk_nope')),
      'no such agent': await refused(nobody.get('tsk_nope')),
      'no parts': await refused(caller.send('')),
    },
  };
}

async function stream(caller, extensions) {
  const texts = {};
  const events = [];
  for await (const event of caller.stream('N=2 SLEEPTOOL=0', extensions)) {
    events.push(event);
    if (event.text !== undefined) texts[event.id] = (event.append ? texts[event.id] : '') + event.text;
  }
  return {
    first: events[0].task ? 'task' : 'update',
    progress: events.map((event) => event.progress).filter(Boolean),
    tools: events.map((event) => event.tool).filter(Boolean),
    text: Object.values(texts).join(''),
    state: events.at(-1).state,
    final: events.at(-1).final,
  };
}

async function cancel(caller) {
  const task = await caller.send(HANGS, { later: true });
  const canceled = await caller.cancel(task.id);
  return [canceled.id === task.id, canceled.state, await refused(caller.cancel(task.id))];
}

async function resubscribe(caller) {
  const task = await caller.send(HANGS, { later: true });
  const events = [];
  for await (const event of caller.resubscribe(task.id)) {
    if (!events.length) await caller.cancel(task.id);
    events.push(event);
  }
  return [events[0].task ? 'task' : 'update', events.at(-1).state];
}

async function question(caller) {
  const asked = await caller.send('N=1 ASK');
  const answered = await caller.send('N=2 yes', { contextId: asked.contextId, taskId: asked.id });
  return [asked.state, asked.asked, answered.id === asked.id, answered.state];
}

async function push(caller, hook) {
  const task = await caller.send(HANGS, { later: true });
  const shown = (config) => config.taskId === task.id && [config.id, config.url === hook];
  const made = [];
  for (const id of ['a', 'b']) made.push(shown(await caller.push.set({ taskId: task.id, id, url: hook, token: 't0ken' })));
  const got = shown(await caller.push.get(task.id, 'a'));
  const both = (await caller.push.list(task.id)).map(shown);
  await caller.push.remove(task.id, 'b');
  const left = (await caller.push.list(task.id)).map(shown);
  await caller.cancel(task.id);
  return [made, got, both, left];
}

export async function refused(call) {
  try {
    await call;
  } catch (error) {
    return error.name === 'Error' ? error.message : error.name;
  }
  return 'taken';
}

export const told = (parts) => parts.map((part) => part.text ?? '').join('');
