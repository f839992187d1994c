import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.engines.cgroups import Home, home_of

UID = "2c48913c-b29f-11e7-9350-020968147796"
UID_2 = "72f7f152-440c-66ac-9084-e0fc1d8a910c"
STATIC = "37ce076d8d523c8b0c8c0b6191d927f6"
A = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961"
B = "b2a102854b4969b2ce98dc329c86b4fb2b06e4ad2cc8da9d8a7578c9cd2004a2"
SLICE = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"

FORMS = {
    # Kubernetes with the driver cgroupfs: SPIRE, k8s_posix_test.go at 02c548ea, "one container ID in cgroups"
    "cgroupfs, guaranteed": (f"11:memory:/kubepods/pod{UID}/{A}", Home(A, UID)),
    # the same by another quality of service: kubelet, pkg/kubelet/cm/pod_container_manager_linux.go
    "cgroupfs, best effort": (f"1:name=systemd:/kubepods/besteffort/pod{UID}/{A}", Home(A, UID)),
    # SPIRE, the same file, "pod UID canonicalized"
    "cgroupfs, underscores": (f"5:devices:/kubepods/pod{UID.replace('-', '_')}/{A}", Home(A, UID)),
    # SPIRE, the same file on its main branch, "cri-containerd": containerd without SystemdCgroup = true
    "a triple": (
        f"9:cpuset:/kubepods-besteffort-pod{UID_2.replace('-', '_')}.slice:cri-containerd:{B}",
        Home(B, UID_2),
    ),
    # the same below containerd's own unit: containerd issue 4900, result B
    "a triple in a unit": (
        f"0::/system.slice/containerd.service/kubepods-pod{UID_2.replace('-', '_')}.slice:cri-containerd:{B}",
        Home(B, UID_2),
    ),
    # containerd with the driver systemd: issue 4900, result A; a static pod's UID: Prometheus, storage benchmarks
    "systemd, containerd, static pod": (f"0::{SLICE}{STATIC}.slice/cri-containerd-{B}.scope", Home(B, STATIC)),
    # Docker with the driver systemd: kontena/pharos-cluster issue 440, systemd-cgls
    "systemd, docker": (f"1:name=systemd:{SLICE}{UID.replace('-', '_')}.slice/docker-{A}.scope", Home(A, UID)),
    # CRI-O issue 811: prefix crio- for containers, crio-conmon- for what watches over them
    "systemd, CRI-O": (f"0::{SLICE}{UID.replace('-', '_')}.slice/crio-{A}.scope", Home(A, UID)),
    # crun has a group of its own below: openshift/machine-config-operator pull request 4765
    "systemd, CRI-O and crun": (f"0::{SLICE}{UID.replace('-', '_')}.slice/crio-{A}.scope/container", Home(A, UID)),
    # the watcher is beside the container, not in it
    "CRI-O's conmon": (f"0::{SLICE}{UID.replace('-', '_')}.slice/crio-conmon-{A}.scope", Home("", UID)),
    # Docker alone: runc, docs/systemd.md
    "docker, systemd": (f"0::/system.slice/docker-{A}.scope", Home(A)),
    "docker, cgroupfs": (f"4:memory:/docker/{A}", Home(A)),
    # Podman: podman-systemd.unit(5), a split group
    "podman": (f"0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service/libpod-payload-{A}", Home(A)),
    # kind: a node is a container and has pods; synthetic, of the two forms above
    "a container in a container": (
        f"0::/docker/{A}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID.replace('-', '_')}.slice"
        f"/cri-containerd-{B}.scope",
        Home(B, UID),
    ),
    # seen from another cgroup namespace: cgroup_namespaces(7)
    "from a namespace beside": (f"0::/../cri-containerd-{B}.scope", Home(B)),
    # from within its own
    "from within": ("0::/", Home()),
    "no container": ("12:pids:/user.slice/user-0.slice/session-1.scope\n0::/init.scope", Home()),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_container_and_its_pod_are_in_the_path_of_a_group(name: str) -> None:
    """Each runtime and driver writes it otherwise, and it means the same."""
    cgroup, expected = FORMS[name]

    assert home_of(cgroup + "\n") == expected


def test_of_several_hierarchies_the_one_that_says_most_counts() -> None:
    """With version 1 some controllers leave a process at the root, and version 2 is beside them."""
    cgroup = f"9:name=systemd:/\n8:cpuset:/docker/{A}\n4:memory:/kubepods/pod{UID}/{A}\n0::/\n"

    assert home_of(cgroup) == Home(A, UID)


@given(st.text(max_size=200))
def test_whatever_is_there_it_is_read(text: str) -> None:
    """No text is an error, and what is no container's id is none."""
    found = home_of(text)

    assert len(found.container_id) in {0, 64}
    assert len(found.pod_uid) in {0, 32, 36}
