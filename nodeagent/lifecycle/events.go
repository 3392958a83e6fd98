package lifecycle

// Reasons of events and of waiting containers, as upstream.
const (
	eventCreated           = "Created"
	eventStarted           = "Started"
	eventFailed            = "Failed"
	eventKilling           = "Killing"
	eventBackOff           = "BackOff"
	eventFailedPullSecret  = "FailedToRetrieveImagePullSecret"
	eventSandboxChanged    = "SandboxChanged"
	eventFailedSandbox     = "FailedCreatePodSandBox"
	eventNetworkNotReady   = "NetworkNotReady"
	eventFailedKillPod     = "FailedKillPod"
	eventFailedMount       = "FailedMount"
	eventFailedPostStart   = "FailedPostStartHook"
	eventFailedPreStop     = "FailedPreStopHook"
	eventResizeStarted     = "ResizeStarted"
	eventResizeCompleted   = "ResizeCompleted"
	eventResizeError       = "ResizeError"
	eventHTTPFallback      = "LifecycleHTTPFallback"
	reasonCrashLoopBackOff = "CrashLoopBackOff"
	reasonConfigError      = "CreateContainerConfigError"
	reasonCreateError      = "CreateContainerError"
	reasonRunError         = "RunContainerError"
	reasonPostStartError   = "PostStartHookError"
	reasonOOMKilled        = "OOMKilled"
)
