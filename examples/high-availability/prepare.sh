#!/bin/sh
# Writes the files of a cluster with several masters: for each a folder with certificates,
# credentials, manifests of static Pods and the settings of its agent, to be copied to
# /var/lib/keelson/control-plane there; beside them the administrator's credentials and a
# configuration of HAProxy.
#
#   ./prepare.sh OUT BALANCER NAME=ADDRESS NAME=ADDRESS NAME=ADDRESS
#
# OUT is the folder to write, BALANCER the address or name under which clients reach the API
# servers, and NAME and ADDRESS those of each master. Run again it keeps the authorities (OUT/authorities)
# and the key of service accounts, and writes everything else anew: that is how
# certificates are renewed, which end after a year.
set -eu
umask 077

fail() { echo "prepare.sh: $*" >&2; exit 1; }

[ $# -ge 3 ] || fail "usage: prepare.sh OUT BALANCER NAME=ADDRESS..."
out=$1 balancer=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
command -v openssl >/dev/null || fail "openssl is missing"

service_address=10.254.0.1   # the first of --service-cidr
builtin_address=198.19.255.1 # the first of the API servers' own --service-cluster-ip-range

members='' gateways='' balanced='' balanced_gateways=''
for master in "$@"; do
	name=${master%%=*} address=${master#*=}
	case $name in '' | *[!a-z0-9.-]*) fail "$master: the name of a master has lower case letters, digits, '-' and '.' only" ;; esac
	case $address in '' | *[!0-9.]*) fail "$master: write NAME=ADDRESS with an IPv4 address" ;; esac
	members=$members,$name=https://$address:2380
	gateways=$gateways,$address:6444
	balanced="$balanced    server $name $address:6443\\n"
	balanced_gateways="$balanced_gateways    server $name $address:6444\\n"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/request.cnf" <<END
[req]
distinguished_name = subject
[subject]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign,digitalSignature
subjectKeyIdentifier = hash
END

key() { [ -s "$1" ] || openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

# authority NAME
authority() {
	key "$out/authorities/$1.key"
	[ -s "$out/authorities/$1.crt" ] || openssl req -new -x509 -sha256 -days 3650 -config "$work/request.cnf" -extensions authority \
		-key "$out/authorities/$1.key" -subj "/CN=$1" -out "$out/authorities/$1.crt"
}

# certificate FILE AUTHORITY SUBJECT USAGE [NAMES]: FILE.crt, with the authority's behind it, and FILE.key.
certificate() {
	rm -f "$1.key"
	key "$1.key"
	{
		echo "basicConstraints = critical,CA:FALSE"
		echo "keyUsage = critical,digitalSignature"
		echo "extendedKeyUsage = $4"
		[ -z "${5:-}" ] || echo "subjectAltName = $5"
	} >"$work/extensions"
	openssl req -new -sha256 -config "$work/request.cnf" -key "$1.key" -subj "$3" -out "$work/request"
	openssl x509 -req -sha256 -days 365 -in "$work/request" -extfile "$work/extensions" -set_serial "0x$(openssl rand -hex 8)" \
		-CA "$out/authorities/$2.crt" -CAkey "$out/authorities/$2.key" -out "$work/certificate" 2>"$work/said" || fail "$(cat "$work/said")"
	cat "$work/certificate" "$out/authorities/$2.crt" >"$1.crt"
}

# kubeconfig FILE SERVER AUTHORITY CERTIFICATE KEY: the last three as lines of the file.
kubeconfig() {
	cat >"$1" <<END
apiVersion: v1
kind: Config
current-context: keelson
clusters:
- name: keelson
  cluster:
    server: https://$2
    $3
users:
- name: keelson
  user:
    $4
    $5
contexts:
- name: keelson
  context: {cluster: keelson, user: keelson}
END
}

# fill TEMPLATE FILE
fill() {
	sed -e "s|@NAME@|$name|g" -e "s|@ADDRESS@|$address|g" -e "s|@MEMBERS@|${members#,}|g" -e "s|@GATEWAYS@|${gateways#,}|g" \
		-e "s|@BALANCED@|$balanced|" -e "s|@BALANCED_GATEWAYS@|$balanced_gateways|" "$here/templates/$1" >"$2"
}

kind_of() { case $1 in *[!0-9.]*) echo "DNS:$1" ;; *) echo "IP:$1" ;; esac; }

mkdir -p "$out/authorities"
for a in cluster-ca etcd-ca front-proxy-ca; do authority $a; done
key "$out/authorities/service-accounts.key"

cluster_names="DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
cluster_names="$cluster_names,IP:127.0.0.1,IP:$service_address,IP:$builtin_address,$(kind_of "$balancer")"

for master in "$@"; do
	name=${master%%=*} address=${master#*=}
	to=$out/$name pki=$out/$name/pki
	mkdir -p "$pki" "$to/manifests"
	cp "$out/authorities/cluster-ca.crt" "$out/authorities/cluster-ca.key" "$out/authorities/etcd-ca.crt" \
		"$out/authorities/front-proxy-ca.crt" "$out/authorities/service-accounts.key" "$pki"

	certificate "$pki/etcd" etcd-ca "/CN=$name" serverAuth,clientAuth "DNS:localhost,DNS:$name,IP:127.0.0.1,IP:$address"
	certificate "$pki/apiserver-etcd" etcd-ca /CN=kube-apiserver clientAuth
	certificate "$pki/apiserver" cluster-ca /CN=kube-apiserver serverAuth "$cluster_names,DNS:$name,IP:$address"
	certificate "$pki/front-proxy" front-proxy-ca /CN=front-proxy-client clientAuth
	certificate "$pki/gateway" cluster-ca /CN=keelson-gateway serverAuth "$cluster_names,DNS:$name,IP:$address"
	certificate "$pki/manager-client" cluster-ca /CN=keelson:manager clientAuth
	certificate "$pki/gateway-client" cluster-ca /CN=keelson:gateway clientAuth
	certificate "$pki/node-client" cluster-ca "/O=keelson:nodes/CN=keelson:node:$name" clientAuth
	certificate "$pki/node" cluster-ca "/CN=keelson:node:$name" serverAuth "DNS:$name,IP:$address"

	# The agent goes through the balancer, what runs beside an API server asks that one.
	for user in manager:localhost gateway:localhost "node:$balancer"; do
		client=${user%%:*}
		kubeconfig "$to/$client.kubeconfig" "${user#*:}:6443" "certificate-authority: pki/cluster-ca.crt" \
			"client-certificate: pki/$client-client.crt" "client-key: pki/$client-client.key"
	done
	fill node.yaml "$to/node.yaml"
	fill authentication.yaml "$to/authentication.yaml"
	for manifest in etcd kube-apiserver keelson-manager keelson-gateway; do
		fill "manifests/$manifest.yaml" "$to/manifests/$manifest.yaml"
	done
done

certificate "$work/admin" cluster-ca /O=system:masters/CN=keelson:admin clientAuth
whole() { echo "$1-data: $(openssl base64 -A -in "$2")"; }
for server in admin:6443 plain:6444; do
	kubeconfig "$out/${server%%:*}.kubeconfig" "$balancer:${server#*:}" "$(whole certificate-authority "$out/authorities/cluster-ca.crt")" \
		"$(whole client-certificate "$work/admin.crt")" "$(whole client-key "$work/admin.key")"
done
fill haproxy.cfg "$out/haproxy.cfg"
