"""The official Python client at work in one namespace: client.py NAMESPACE IMAGE.

Ends with an exception, and so with exit code 1, at the first thing that is not as it
is in Kubernetes; prints a line for each thing that is.
"""

import sys
import threading
import time

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream

namespace, image = sys.argv[1:]
PATIENCE = 100  # seconds

config.load_kube_config()
core = client.CoreV1Api()


def expect(what, got, want):
    if got != want:
        raise AssertionError(f"{what}: {got!r}, want {want!r}")
    print("ok", what)


def shell_pod(name, command):
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name=name, labels={"app": name}),
        spec=client.V1PodSpec(
            termination_grace_period_seconds=1,
            containers=[client.V1Container(name="main", image=image, command=["sh", "-c", command])],
        ),
    )


def refused(what, call, status, message):
    try:
        call()
    except ApiException as error:
        expect(what, error.status, status)
        if message not in error.body:
            raise AssertionError(f"{what}: {error.body!r} lacks {message!r}") from error
        return
    raise AssertionError(f"{what}: was not refused")


# Watch from the start of the namespace, while another thread changes it.
began = core.list_namespaced_pod(namespace)
expect("an empty list", (began.kind, began.api_version, began.items), ("PodList", "v1", []))
events = []


def follow():
    watcher = watch.Watch()
    for event in watcher.stream(
        core.list_namespaced_pod,
        namespace,
        resource_version=began.metadata.resource_version,
        timeout_seconds=PATIENCE,
    ):
        pod = event["object"]
        expect(f"a watched {event['type']}", (type(pod).__name__, pod.metadata.name), ("V1Pod", "py"))
        events.append((event["type"], pod.status.phase))
        if event["type"] == "DELETED":
            watcher.stop()


follower = threading.Thread(target=follow)
follower.start()

made = core.create_namespaced_pod(namespace, shell_pod("py", "echo begin; sleep 1000"))
expect("the kind of a new Pod", (made.kind, made.api_version), ("Pod", "v1"))
deadline = time.monotonic() + PATIENCE
while core.read_namespaced_pod("py", namespace).status.phase != "Running":
    if time.monotonic() > deadline:
        raise AssertionError("the Pod does not run")
    time.sleep(0.1)

listed = core.list_namespaced_pod(namespace, label_selector="app=py", field_selector="status.phase=Running")
expect("a list by selectors", [pod.metadata.name for pod in listed.items], ["py"])
everywhere = core.list_pod_for_all_namespaces(field_selector="metadata.name=py", limit=1)
expect("a list of all namespaces", [pod.metadata.uid for pod in everywhere.items], [made.metadata.uid])
expect("nodes", all(node.status.node_info.kubelet_version for node in core.list_node().items), True)

patched = core.patch_namespaced_pod("py", namespace, {"metadata": {"annotations": {"a": "b"}}})
expect("a patch", patched.metadata.annotations["a"], "b")
refused("a Pod that is missing", lambda: core.read_namespaced_pod("none", namespace), 404, 'pods \\"none\\" not found')
refused("a Pod twice", lambda: core.create_namespaced_pod(namespace, shell_pod("py", "true")), 409, 'pods \\"py\\" already exists')
refused(
    "a Pod without containers",
    lambda: core.create_namespaced_pod(namespace, {"metadata": {"name": "bad"}, "spec": {"containers": []}}),
    422,
    "spec.containers",
)

expect("logs", core.read_namespaced_pod_log("py", namespace), "begin\n")

# One command with its output collected, and one that is talked with over the websocket.
output = stream(
    core.connect_get_namespaced_pod_exec, "py", namespace,
    command=["sh", "-c", "echo out; echo err >&2"], stdin=False, stdout=True, stderr=True, tty=False,
)
expect("exec", sorted(output.split()), ["err", "out"])
talk = stream(
    core.connect_get_namespaced_pod_exec, "py", namespace,
    command=["sh", "-c", "read line; echo got $line; exit 5"], stdin=True, stdout=True, stderr=True, tty=False,
    _preload_content=False,
)
talk.write_stdin("words\n")
talk.run_forever(timeout=PATIENCE)
expect("exec with input", talk.read_stdout(), "got words\n")
expect("the exit code of exec", talk.returncode, 5)

# The dynamic client finds kinds through discovery.
pods = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="Pod")
expect("the dynamic client", pods.get(name="py", namespace=namespace).metadata.uid, made.metadata.uid)

service = core.create_namespaced_service(
    namespace,
    client.V1Service(
        metadata=client.V1ObjectMeta(name="web"),
        spec=client.V1ServiceSpec(type="NodePort", selector={"app": "py"}, ports=[client.V1ServicePort(port=80)]),
    ),
)
expect("an address for a new Service", bool(service.spec.cluster_ip and service.spec.ports[0].node_port), True)

core.delete_namespaced_pod("py", namespace)
follower.join(timeout=PATIENCE)
expect("the first and the last event", (events[0], events[-1][0]), (("ADDED", "Pending"), "DELETED"))
expect("the Pod ran in between", "Running" in [phase for _, phase in events], True)
