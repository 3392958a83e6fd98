package support

// withVolumes adds the volumes of a Pod.
func withVolumes(t Table) Table {
	const volume = "spec.volumes[*]."
	t.with("spec.", supported(), "volumes")
	t.with(volume, supported(), "name", "emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected", "image")
	t.with(volume+"image.", noted("resolved once in a Pod's life"), "reference")
	t.with(volume+"image.", supported(), "pullPolicy")
	t.with(volume, refused("claims of storage are not bound yet"), "persistentVolumeClaim", "ephemeral")
	t.with(volume, refused("upstream has switched it off for good; clone in an init container into an emptyDir"), "gitRepo")
	t.with(volume, refused("drivers of storage are not called"), "csi", "flexVolume")
	t.with(volume, refused("network volumes are not mounted"), "gcePersistentDisk", "awsElasticBlockStore", "nfs", "iscsi",
		"glusterfs", "rbd", "cinder", "cephfs", "flocker", "fc", "azureFile", "vsphereVolume", "quobyte", "azureDisk",
		"photonPersistentDisk", "portworxVolume", "scaleIO", "storageos")

	t.with(volume+"emptyDir.", noted("HugePages and HugePages-SIZE where the node has such pages set aside"), "medium")
	t.with(volume+"emptyDir.", noted("bounds a volume in memory, or of huge pages, at once; a Pod whose volume on disk grows beyond it is evicted"), "sizeLimit")
	t.with(volume+"emptyDir.", refused("upstream has it behind an alpha gate"), "mode")
	t.with(volume+"hostPath.", supported(), "path", "type")

	t.with(volume+"configMap.", supported(), "name", "items", "defaultMode", "optional")
	t.with(volume+"secret.", supported(), "secretName", "items", "defaultMode", "optional")
	t.with(volume+"downwardAPI.", supported(), "items", "defaultMode")
	t.with(volume+"projected.", supported(), "sources", "defaultMode")
	const source = volume + "projected.sources[*]."
	t.with(source, supported(), "configMap", "secret", "downwardAPI", "serviceAccountToken")
	t.with(source, supported(), "clusterTrustBundle")
	t.with(source+"clusterTrustBundle.", supported(), "name", "signerName", "labelSelector", "labelSelector.matchLabels",
		"labelSelector.matchExpressions", "optional", "path")
	for _, name := range []string{"key", "operator", "values"} {
		t.with(source+"clusterTrustBundle.labelSelector.matchExpressions[*].", supported(), name)
	}
	t.with(source, noted("where the API server serves PodCertificateRequests; a signer of yours answers them"), "podCertificate")
	t.with(source+"podCertificate.", supported(), "signerName", "keyType", "maxExpirationSeconds", "credentialBundlePath",
		"keyPath", "certificateChainPath", "userAnnotations")
	t.with(source+"configMap.", supported(), "name", "items", "optional")
	t.with(source+"secret.", supported(), "name", "items", "optional")
	t.with(source+"downwardAPI.", supported(), "items")
	t.with(source+"serviceAccountToken.", supported(), "audience", "path")
	t.with(source+"serviceAccountToken.", noted("the gateway binds the token to the Pod; at the API server it ends with its time or its account"), "expirationSeconds")

	for _, keys := range []string{volume + "configMap.", volume + "secret.", source + "configMap.", source + "secret."} {
		t.with(keys+"items[*].", supported(), "key", "path", "mode")
	}
	for _, files := range []string{volume + "downwardAPI.", source + "downwardAPI."} {
		t.with(files+"items[*].", supported(), "path", "mode", "fieldRef", "resourceFieldRef")
		t.with(files+"items[*].fieldRef.", supported(), "apiVersion", "fieldPath")
		t.with(files+"items[*].resourceFieldRef.", supported(), "containerName", "resource", "divisor")
	}
	return withoutFileOwners(t)
}

// withoutFileOwners refuses the owner of files wherever upstream has the field.
func withoutFileOwners(t Table) Table {
	alpha := refused("upstream has it behind an alpha gate")
	const volume, source = "spec.volumes[*].", "spec.volumes[*].projected.sources[*]."
	for _, kind := range []string{"configMap.", "secret.", "downwardAPI.", "projected."} {
		t.with(volume+kind, alpha, "defaultUser")
	}
	for _, list := range []string{volume + "configMap.", volume + "secret.", volume + "downwardAPI.", source + "configMap.", source + "secret.", source + "downwardAPI."} {
		t.with(list+"items[*].", alpha, "user")
	}
	t.with(source+"serviceAccountToken.", alpha, "user")
	t.with(source+"clusterTrustBundle.", alpha, "user")
	t.with(source+"podCertificate.", alpha, "user")
	return t
}

// withVolumeMounts adds what a container mounts.
func withVolumeMounts(t Table, container string) Table {
	t.with(container, supported(), "volumeMounts")
	t.with(container, refused("claims of storage are not bound yet"), "volumeDevices")
	mount := container + "volumeMounts[*]."
	t.with(mount, supported(), "name", "mountPath", "subPath", "subPathExpr", "readOnly", "recursiveReadOnly", "mountPropagation")
	return t.with(mount, refused("upstream has it behind an alpha gate"), "bindMountOptions")
}
