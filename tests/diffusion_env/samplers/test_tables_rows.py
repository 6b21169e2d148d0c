"""Rows of a step table by number: the same as by index, kept once read, and never another table's."""

import pickle
from dataclasses import replace

import pytest
import torch

from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.tables import StepTable


@pytest.fixture
def table() -> StepTable:
    return make_table("ddpm", make_schedule("cosine"), 5)


@pytest.mark.parametrize("event_dims", [1, 3])
def test_a_number_reads_what_an_index_reads(table: StepTable, event_dims: int) -> None:
    by_index = table.rows(torch.arange(5), event_dims)
    for k in range(5):
        for one, many in zip(table.rows(k, event_dims), by_index, strict=True):
            assert one.shape == (1,) * event_dims and torch.equal(one, many[k])
    assert not torch.equal(table.rows(0, 1).std, table.rows(1, 1).std)


def test_a_row_is_read_once(table: StepTable) -> None:
    assert table.rows(3, 1) is table.rows(3, 1)
    assert pickle.loads(pickle.dumps(table)).rows(3, 1).std == table.rows(3, 1).std


def test_a_changed_table_has_rows_of_its_own(table: StepTable) -> None:
    old = table.rows(4, 1)
    wider = replace(table, std=table.std + 1)
    assert wider.rows(4, 1).std == old.std + 1 and table.rows(4, 1) is old
    torch.testing.assert_close(wider.action_scale, torch.hypot(wider.eps_coef, wider.std))
    assert torch.equal(wider.to("cpu").action_scale, wider.action_scale)


def test_rows_first_read_in_inference_mode_train(table: StepTable) -> None:
    with torch.inference_mode():
        table.rows(2, 1)
    eps = torch.ones(3, 2, requires_grad=True)
    table.law(2, torch.ones(3, 2), eps, 1).mean.sum().backward()
    assert eps.grad is not None and torch.equal(eps.grad, table.eps_coef[2].expand(3, 2))
