package replicaset

import (
	"k8s.io/apimachinery/pkg/api/equality"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/internal/replicas"
)

func statusOf(rs *appsv1.ReplicaSet) replicas.Status { return rs.Status.ReplicaSetStatus }

// setStatus writes status into rs, with its columns.
func setStatus(rs *appsv1.ReplicaSet, status replicas.Status) {
	rs.Status.ReplicaSetStatus = status
	rs.Status.Summary = summary.ReplicaSet(rs)
}

func sameStatus(a, b *appsv1.ReplicaSet) bool {
	return equality.Semantic.DeepEqual(&a.Status, &b.Status)
}
