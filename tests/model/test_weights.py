"""Weights are loaded whole or not at all, and what is wrong is said."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from sam2ft.config.schema.arguments import signatures
from sam2ft.core.errors import CheckpointError
from sam2ft.model import weights
from sam2ft.model.segmenter import build_segmenter, build_untrained
from sam2ft.model.weights import (
    OFFICIAL,
    describe_weights,
    load_weights,
    nano_weights_path,
    read_info,
    read_weights,
    verified_nano_weights,
)

pytestmark = pytest.mark.sam2


def state_of(model):
    return {key: tensor.clone() for key, tensor in model.sam2_model.state_dict().items()}


def saved(state, path, **more):
    torch.save({"model": state, **more}, path)
    return path


def test_a_stock_checkpoint_and_ours_load_into_the_model(nano, tmp_path):
    path = saved(state_of(nano), tmp_path / "best.pt", sam2ft=json.dumps({"epoch": 3}))
    other = build_untrained("sam2_nano", image_size=256, seed=9)
    assert not torch.equal(other.sam2_model.no_mem_embed, nano.sam2_model.no_mem_embed)
    load_weights(other.sam2_model, path)
    assert all(torch.equal(value, nano.state_dict()[key]) for key, value in other.state_dict().items())
    assert read_info(path) == {"epoch": 3}
    assert read_info(saved(state_of(nano), tmp_path / "foreign.pt")) == {}


def test_what_we_export_loads_in_stock_sam2_as_it_is(nano, tmp_path):
    from sam2.build_sam import build_sam2

    from sam2ft.model.nano.overrides import BASE_CONFIG, OVERRIDES

    path = saved(state_of(nano), tmp_path / "best.pt", sam2ft="{}")
    stock = build_sam2(BASE_CONFIG, str(path), device="cpu", hydra_overrides_extra=list(OVERRIDES))
    assert torch.equal(stock.no_mem_embed, nano.sam2_model.no_mem_embed)


def test_sixteen_bit_safetensors_become_the_models_type(nano, tmp_path):
    path = tmp_path / "half.safetensors"
    save_file({key: tensor.half().contiguous() for key, tensor in state_of(nano).items()}, path)
    other = build_untrained("sam2_nano", image_size=256, seed=9)
    load_weights(other.sam2_model, path)
    assert other.sam2_model.no_mem_embed.dtype == torch.float32
    assert torch.equal(other.sam2_model.no_mem_embed, nano.sam2_model.no_mem_embed.half().float())


def test_missing_unexpected_and_misshapen_keys_are_listed_and_nothing_is_changed(nano, tmp_path):
    state = state_of(nano)
    state["ghost"] = torch.zeros(1)
    del state["mask_downsample.weight"]
    state["sam_mask_decoder.iou_token.weight"] = torch.zeros(1, 7)
    before = state_of(nano)
    with pytest.raises(CheckpointError) as caught:
        load_weights(nano.sam2_model, saved(state, tmp_path / "odd.pt"))
    message = str(caught.value)
    assert "1 missing: mask_downsample.weight" in message
    assert "1 unexpected: ghost" in message
    assert "sam_mask_decoder.iou_token.weight is (1, 7), expected (1, 128)" in message
    assert all(torch.equal(before[key], tensor) for key, tensor in nano.sam2_model.state_dict().items())


def test_long_lists_are_cut_and_a_wrapper_that_nobody_knows_is_named(nano, tmp_path):
    wrapped = {f"segmenter.{key}": tensor for key, tensor in state_of(nano).items()}
    with pytest.raises(CheckpointError, match=r"missing: .* and \d+ more") as caught:
        load_weights(nano.sam2_model, saved(wrapped, tmp_path / "wrapped.pt"))
    assert "its keys begin with 'segmenter.'" in str(caught.value)


def prefixed(state, prefix):
    return {prefix + key: tensor for key, tensor in state.items()}


LAYOUTS = {
    "as MedSAM2's training writes it": (lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 9}, None),
    "bare": (lambda state: state, None),
    "DataParallel": (lambda state: {"model": prefixed(state, "module.")}, "the prefix 'module.' removed from"),
    "Lightning": (
        lambda state: {"state_dict": prefixed(state, "model.sam2_model."), "epoch": 1},
        "read from state_dict, the prefix 'model.sam2_model.' removed from",
    ),
    "nested": (lambda state: {"model": {"state_dict": state, "step": 4}}, "read from model > state_dict"),
    "plain PyTorch": (lambda state: {"model_state_dict": state, "loss": 0.1}, "read from model_state_dict"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_checkpoints_of_other_programs_are_unwrapped_and_what_was_taken_off_is_said(nano, tmp_path, caplog, name):
    wrap, said = LAYOUTS[name]
    torch.save(wrap(state_of(nano)), tmp_path / "other.pt")
    other = build_untrained("sam2_nano", image_size=256, seed=9)
    load_weights(other.sam2_model, tmp_path / "other.pt")
    assert all(torch.equal(value, nano.state_dict()[key]) for key, value in other.state_dict().items())
    assert [said in record.getMessage() for record in caplog.records] == ([True] if said else [])


def test_a_prefix_that_some_keys_lack_is_not_taken_off(nano, tmp_path):
    state = prefixed(state_of(nano), "module.") | {"head.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"unexpected: head\.weight, module\."):
        load_weights(nano.sam2_model, saved(state, tmp_path / "half.pt"))


@pytest.mark.parametrize("content", [{}, {"model": {}}, {"model": {"weight": 3}}, [1, 2]])
def test_a_file_without_tensors_by_name_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match=r"none\.pt: expected .*, found "):
        read_weights(tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("configs/sam2.1/sam2.1_hiera_t.yaml", "sam2.1_hiera_tiny"),
        ("configs/sam2.1/sam2.1_hiera_b+.yaml", "sam2.1_hiera_base_plus"),
        ("configs/sam2/sam2_hiera_s.yaml", "sam2_hiera_small"),
    ],
)
def test_a_checkpoint_of_another_size_names_both(nano, tmp_path, config, name):
    other = build_untrained(config, image_size=256)
    assert describe_weights(state_of(other)) == name
    path = saved(state_of(nano), tmp_path / "nano.pt")
    with pytest.raises(CheckpointError, match=r"this looks like sam2_nano, but module.sam2_model_cfg builds sam2") as e:
        load_weights(other.sam2_model, path)
    assert str(e.value).endswith(f"builds {name}")


def test_every_official_checkpoint_names_a_stock_configuration():
    assert {each.config for each in OFFICIAL.values()} == set(signatures()["sam2_configs"])
    assert all(each.file_name == f"{name}.pt" for name, each in OFFICIAL.items())


def test_files_that_are_no_checkpoints_are_refused_without_a_traceback(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_weights(tmp_path / "none.pt")
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("not weights")
        with pytest.raises(CheckpointError, match="not a checkpoint that can be read safely"):
            read_weights(tmp_path / name)
    torch.save({"state_dict": {}, "epoch": 1}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r'expected {"model": .*}.* found state_dict, epoch'):
        read_weights(tmp_path / "other.pt")


def test_damaged_weights_of_the_package_are_refused(tmp_path, monkeypatch):
    for name in ("sam2_nano.safetensors", "sam2_nano.json"):
        shutil.copy(nano_weights_path().with_name(name), tmp_path / name)
    copy = tmp_path / "sam2_nano.safetensors"
    monkeypatch.setattr(weights, "nano_weights_path", lambda: copy)
    assert verified_nano_weights() == copy
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    with pytest.raises(CheckpointError, match="install sam2ft again"):
        build_segmenter("sam2_nano", image_size=256, checkpoint=None)


class Boom:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_that_would_run_code_is_not_run(tmp_path, capsys):
    torch.save({"model": Boom()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint that can be read safely"):
        read_weights(tmp_path / "evil.pt")
    assert "executed" not in capsys.readouterr().out


def test_a_truncated_checkpoint_is_refused(nano, tmp_path):
    path = saved(state_of(nano), tmp_path / "cut.pt")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"cut.pt: not a checkpoint"):
        read_weights(path)
