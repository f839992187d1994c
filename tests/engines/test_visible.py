import pytest

from inferwatt.engines.visible import Visible, visible_to

GPU = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
BY_BUS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.mark.parametrize(
    ("told", "ids"),
    [
        (GPU, (GPU,)),
        ("GPU-8932f937, GPU-1", ("GPU-8932f937", "GPU-1")),
        (f"MIG-{GPU}/1/0", (GPU,)),
        (f"{GPU},-1,GPU-2", (GPU,)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
    ],
)
def test_uuids_name_gpus_wherever_a_process_is(told: str, ids: tuple[str, ...]) -> None:
    """Whole, cut short, a MIG instance by its old name; up to the first that means nothing; none is none."""
    for in_container in (False, True):
        seen = visible_to({"CUDA_VISIBLE_DEVICES": told}, in_container=in_container)

        assert seen == Visible(ids, is_told=True)


def test_numbers_mean_a_gpu_only_where_cuda_counts_as_we_do() -> None:
    """By the PCI bus, and where all are counted; by CUDA's own order, or in a container, nobody can say."""
    told = {"CUDA_VISIBLE_DEVICES": "1,0"}

    assert visible_to(told | BY_BUS, in_container=False).ids == ("pci-bus-order:1", "pci-bus-order:0")
    for in_container, order in ((False, {}), (True, BY_BUS), (True, {})):
        seen = visible_to(told | order, in_container=in_container)

        assert (seen.ids, seen.is_told) == ((), True)
        assert "number" in seen.why_not


def test_a_mig_instance_by_its_new_name_is_not_mapped() -> None:
    """Its name does not say which GPU it is of: it is said, and not guessed."""
    seen = visible_to({"CUDA_VISIBLE_DEVICES": "MIG-1f2c5b5c-65a9-5c1a-9b66-000000000000"}, in_container=True)

    assert seen.ids == ()
    assert "MIG" in seen.why_not


def test_what_a_container_was_given_counts_where_nothing_else_is_said() -> None:
    """UUIDs of NVIDIA_VISIBLE_DEVICES, in a container; `all` and numbers there are no word about a GPU."""
    given = {"NVIDIA_VISIBLE_DEVICES": GPU}

    assert visible_to(given, in_container=True).ids == (GPU,)
    assert visible_to(given | {"CUDA_VISIBLE_DEVICES": "GPU-1"}, in_container=True).ids == ("GPU-1",)
    assert visible_to(given, in_container=False) == Visible()
    for word in ("all", "void", "0,1"):
        assert visible_to({"NVIDIA_VISIBLE_DEVICES": word}, in_container=True) == Visible()
