package tokens

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestBootstrapLeft(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		expiration string
		left       time.Duration
		expires    bool
	}{
		"no end":                      {"", 0, false},
		"an hour from now":            {"2026-01-02T01:00:00Z", time.Hour, true},
		"an hour, in another zone":    {"2026-01-02T03:00:00+02:00", time.Hour, true},
		"over":                        {"2026-01-01T00:00:00Z", 0, true},
		"an end that nobody can read": {"tomorrow", 0, true},
	} {
		secret := &corev1.Secret{Data: map[string][]byte{bootstrapExpiration: []byte(tc.expiration)}}
		if left, expires := bootstrapLeft(secret, now); left != tc.left || expires != tc.expires {
			t.Errorf("%s: %s, %t", name, left, expires)
		}
	}
}

func TestPlanCleaning(t *testing.T) {
	now := time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)
	const unused = 30 * 24 * time.Hour
	for name, tc := range map[string]struct {
		made   string
		labels map[string]string
		want   cleaning
	}{
		"young":                                {made: "2026-06-01", want: keep},
		"old and never used":                   {made: "2026-01-01", want: mark},
		"old and used lately":                  {made: "2026-01-01", labels: map[string]string{lastUsedLabel: "2026-06-14"}, want: keep},
		"used on the last day that counts":     {made: "2026-01-01", labels: map[string]string{lastUsedLabel: "2026-05-16"}, want: keep},
		"used a day earlier":                   {made: "2026-01-01", labels: map[string]string{lastUsedLabel: "2026-05-15"}, want: mark},
		"used at a time that nobody can read":  {made: "2026-01-01", labels: map[string]string{lastUsedLabel: "once"}, want: keep},
		"marked lately":                        {made: "2026-01-01", labels: map[string]string{invalidSinceLabel: "2026-06-01"}, want: keep},
		"marked long ago":                      {made: "2026-01-01", labels: map[string]string{invalidSinceLabel: "2026-05-01"}, want: remove},
		"marked long ago and used since then":  {made: "2026-01-01", labels: map[string]string{invalidSinceLabel: "2026-05-01", lastUsedLabel: "2026-06-01"}, want: keep},
		"marked in a way that nobody can read": {made: "2026-01-01", labels: map[string]string{invalidSinceLabel: "x"}, want: mark},
	} {
		made, err := time.Parse(day, tc.made)
		if err != nil {
			t.Fatal(err)
		}
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(made), Labels: tc.labels}}
		if got := planCleaning(secret, now, unused); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

func TestNames(t *testing.T) {
	reference := corev1.LocalObjectReference{Name: "s"}
	env := []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: reference}}}}
	for name, spec := range map[string]corev1.PodSpec{
		"a volume":                 {Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}}}},
		"a projected volume":       {Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{Secret: &corev1.SecretProjection{LocalObjectReference: reference}}}}}}}},
		"images":                   {ImagePullSecrets: []corev1.LocalObjectReference{reference}},
		"a variable":               {Containers: []corev1.Container{{Env: env}}},
		"a variable at the start":  {InitContainers: []corev1.Container{{Env: env}}},
		"all variables":            {Containers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: reference}}}}}},
		"an ephemeral container's": {EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Env: env}}}},
	} {
		if !names(&spec, "s") || names(&spec, "other") {
			t.Errorf("%s is not seen, or too much", name)
		}
	}
}
