// The official JavaScript client at work in one namespace: client.mjs NAMESPACE IMAGE.
// It ends with an error, and so with exit code 1, at the first thing that is not as it is
// in Kubernetes, and prints a line for each thing that is.
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import * as k8s from '@kubernetes/client-node';

const [namespace, image] = process.argv.slice(2);
const patience = 100_000; // milliseconds

const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);

const expect = (what, got, want) => {
  assert.deepEqual(got, want, what);
  console.log('ok', what);
};

const until = async (what, check) => {
  for (const deadline = Date.now() + patience; !(await check()); await delay(100)) {
    assert.ok(Date.now() < deadline, `${what}: not after ${patience} ms`);
  }
  console.log('ok', what);
};

const collected = (stream) => {
  let text = '';
  stream.on('data', (part) => { text += part; });
  return () => text;
};

const pod = {
  metadata: { name: 'js', labels: { app: 'js' } },
  spec: {
    terminationGracePeriodSeconds: 1,
    containers: [{ name: 'main', image, command: ['sh', '-c', 'echo begin; sleep 1000'] }],
  },
};

const began = await core.listNamespacedPod({ namespace });
expect('an empty list', [began.kind, began.apiVersion, began.items], ['PodList', 'v1', []]);

// A watch, and an informer, which lists and watches by itself.
const events = [];
const abort = await new k8s.Watch(config).watch(
  `/api/v1/namespaces/${namespace}/pods`,
  { resourceVersion: began.metadata.resourceVersion },
  (type, object) => events.push([type, object.kind, object.apiVersion, object.status.phase]),
  (error) => { if (error && error.name !== 'AbortError') throw error; },
);
const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/pods`, () => core.listNamespacedPod({ namespace }));
const seen = [];
for (const type of ['add', 'update', 'delete']) {
  informer.on(type, (object) => seen.push(`${type} ${object.metadata.name}`));
}
informer.on('error', (error) => { if (error.name !== 'AbortError') throw error; }); // its own stop aborts
await informer.start();

const made = await core.createNamespacedPod({ namespace, body: pod });
expect('the kind of a new Pod', [made.kind, made.apiVersion], ['Pod', 'v1']);
await until('the Pod runs', async () => (await core.readNamespacedPod({ name: 'js', namespace })).status.phase === 'Running');
const listed = await core.listNamespacedPod({ namespace, labelSelector: 'app=js', fieldSelector: 'status.phase=Running' });
expect('a list by selectors', listed.items.map((item) => item.metadata.name), ['js']);

const patched = await core.patchNamespacedPod(
  { name: 'js', namespace, body: [{ op: 'add', path: '/metadata/annotations', value: { a: 'b' } }] },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.JsonPatch),
);
expect('a JSON patch', patched.metadata.annotations, { a: 'b' });
await assert.rejects(core.readNamespacedPod({ name: 'none', namespace }), (error) => {
  expect('a Pod that is missing', error.code, 404);
  expect('its message', JSON.parse(error.body).message, 'pods "none" not found');
  return true;
});
expect('logs', await core.readNamespacedPodLog({ name: 'js', namespace }), 'begin\n');

// exec over a websocket, with input, and its exit code.
const stdin = new PassThrough();
const [stdout, stderr] = [new PassThrough(), new PassThrough()];
const [out, err] = [collected(stdout), collected(stderr)];
const ended = Promise.withResolvers?.() ?? (() => {
  const it = {};
  it.promise = new Promise((resolve) => { it.resolve = resolve; });
  return it;
})();
await new k8s.Exec(config).exec(namespace, 'js', 'main', ['sh', '-c', 'read line; echo got $line; echo complaint >&2; exit 5'],
  stdout, stderr, stdin, false, (status) => ended.resolve(status));
stdin.write('words\n');
const status = await Promise.race([ended.promise, delay(patience, undefined, { ref: false }).then(() => { throw new Error('exec does not end'); })]);
expect('exec with input', [out(), err()], ['got words\n', 'complaint\n']);
expect('the exit code of exec', [status.status, status.details.causes], ['Failure', [{ reason: 'ExitCode', message: '5' }]]);

const service = await core.createNamespacedService({
  namespace,
  body: { metadata: { name: 'web' }, spec: { selector: { app: 'js' }, ports: [{ port: 80 }] } },
});
expect('an address for a new Service', Boolean(service.spec.clusterIP), true);

await core.deleteNamespacedPod({ name: 'js', namespace });
await until('the watch sees the deletion', () => events.at(-1)?.[0] === 'DELETED');
expect('the first event', events[0], ['ADDED', 'Pod', 'v1', 'Pending']);
expect('the Pod ran in between', events.some(([type, , , phase]) => type === 'MODIFIED' && phase === 'Running'), true);
await until('the informer sees it, too', () => seen.includes('delete js'));
expect('the informer saw it come', seen[0], 'add js');
abort.abort();
await informer.stop();
