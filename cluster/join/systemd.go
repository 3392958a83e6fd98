package join

import "github.com/keelson-dev/keelson/cluster/internal/systemd"

// unitName is the service of a joined machine, of which a machine has one at most.
const unitName = "keelson-node.service"

// unit is the service that keeps the node of a folder up.
func unit(l layout, self string) systemd.Unit {
	return systemd.Unit{
		Name: unitName, Description: "Keelson node", Folder: l.data,
		Writer: "keelson join --systemd", Remover: "keelson leave",
		Program: self, Args: []string{"supervise-node", "--data-dir=" + l.data}, StopSeconds: 90,
	}
}
