"""Results as lines: nothing is lost, what runs share is said once, and many processes may write."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.comparison.results import (
    WORKING,
    entry_path,
    merge_parts,
    read_entry,
    read_folder,
    run_key,
    write_entry,
    write_part,
)


def result(seed=0, num_steps=10, dataset="moons", **changes):
    return {
        "entry": "ppo",
        "task": {"dataset": dataset, "num_steps": num_steps},
        "seed": seed,
        "settings": {"algorithm": "ppo", "hyperparameters": {"gamma": 1.0, "steps": 1}, "total_timesteps": 100},
        "status": "finished",
        "error": "",
        "curve": [{"num_timesteps": 0, "sw2": 0.1 + 0.2}],
        "metrics": {"sw2": [1e-17, 0.30000000000000004], "mode_coverage": [None]},
        "versions": {"torch": "2"},
        "machine": {"processor": "a processor", "cores": 2},
        "commit": "0123",
        **changes,
    }


def text(one):
    return json.dumps(one, sort_keys=True)


VARIED = [
    result(),
    result(1, commit="4567"),
    result(0, 2, settings={"algorithm": "ppo", "hyperparameters": {"gamma": 1, "steps": 1}, "total_timesteps": 50}),
    result(2, machine={"processor": "another", "cores": 8}, versions={"torch": "3"}),
    result(3, status="failed", error="OSError: disk", metrics=None),
]


def test_what_is_written_is_read_again_to_the_last_digit(tmp_path):
    path = write_entry(tmp_path / "ppo.jsonl", VARIED)
    assert sorted(map(text, read_entry(path))) == sorted(map(text, VARIED))


def test_what_runs_share_is_said_once(tmp_path):
    header, *lines = write_entry(tmp_path / "ppo.jsonl", VARIED).read_text().splitlines()
    said = json.loads(header)
    assert said["entry"] == "ppo" and said["settings"]["same"] == {"algorithm": "ppo"}
    # 1 and 1.0 are two settings: their text differs.
    assert said["settings"]["differing"] == [
        {"hyperparameters": {"gamma": 1, "steps": 1}, "total_timesteps": 50},
        {"hyperparameters": {"gamma": 1.0, "steps": 1}, "total_timesteps": 100},
    ]
    assert len(said["made_with"]["differing"]) == 3
    assert len(lines) == len(VARIED) and not any("processor" in line or "gamma" in line for line in lines)


def test_equal_runs_give_an_equal_file_in_whatever_order_they_come(tmp_path):
    first = write_entry(tmp_path / "a" / "ppo.jsonl", VARIED).read_bytes()
    assert write_entry(tmp_path / "b" / "ppo.jsonl", reversed(VARIED)).read_bytes() == first
    keys = [run_key(run) for run in read_entry(tmp_path / "b" / "ppo.jsonl")]
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("line", "damaged"),
    [(1, "{"), (2, '{"seed": 0'), (3, '{"seed": 0}'), (2, "[]"), (1, "{}"), (2, '{"settings": 9, "made_with": 0}')],
)
def test_a_damaged_line_is_named(tmp_path, line, damaged):
    path = write_entry(tmp_path / "ppo.jsonl", VARIED)
    lines = path.read_text().splitlines()
    lines[line - 1] = damaged
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"ppo\.jsonl, line {line}, is damaged .* Take the file from git again"):
        read_entry(path)


def test_an_empty_file_and_a_renamed_one_are_refused(tmp_path):
    (tmp_path / "ppo.jsonl").write_text("")
    with pytest.raises(ValueError, match="line 1, is damaged"):
        read_entry(tmp_path / "ppo.jsonl")
    write_entry(tmp_path / "ppo.jsonl", VARIED).rename(tmp_path / "a2c.jsonl")
    with pytest.raises(ValueError, match=r"Name the file ppo\.jsonl"):
        read_entry(tmp_path / "a2c.jsonl")


def test_parts_become_lines_and_replace_the_run_of_the_same_seed(tmp_path):
    write_entry(entry_path(tmp_path, "ppo"), [result(0, status="failed"), result(1)])
    write_part(tmp_path, result(0))
    write_part(tmp_path, result(2))
    write_part(tmp_path, {**result(0), "entry": "a2c"})
    assert merge_parts(tmp_path) == 3 and merge_parts(tmp_path) == 0
    found = read_folder(tmp_path)
    assert [(run["seed"], run["status"]) for run in found["ppo"]] == [(s, "finished") for s in (0, 1, 2)]
    assert [run["seed"] for run in found["a2c"]] == [0] and list(found) == ["a2c", "ppo"]
    assert not list((tmp_path / WORKING).glob("*.json"))


def test_a_folder_without_parts_is_left_alone(tmp_path):
    assert merge_parts(tmp_path / "none") == 0 and not (tmp_path / "none").exists()


def test_writers_at_the_same_time_lose_no_run(tmp_path):
    def write(first):
        for seed in range(first, 40, 4):
            write_part(tmp_path, result(seed))
            merge_parts(tmp_path)

    with ThreadPoolExecutor(4) as threads:  # each call opens the lock anew, as a process of its own would
        list(threads.map(write, range(4)))
    assert [run["seed"] for run in read_entry(entry_path(tmp_path, "ppo"))] == list(range(40))
