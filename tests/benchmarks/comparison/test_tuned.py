"""Hyper-parameters that were tuned, read when they are asked for."""

import pytest

from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.presets import preset
from benchmarks.comparison import tuned as tuned_module
from benchmarks.comparison.tuned import FEW, FIRST_EDITION, MANY, STAGES, STUDIES, has_study, study, tuned
from diffusion_env.checkpoints import write_json


def test_the_best_trial_replaces_what_the_study_fixed():
    found = study("sft_pg")
    then = FIRST_EDITION["sft_pg"]
    assert tuned("sft_pg") == then | found["problem"]["held"] | found["changes"] != tuned("sft_pg", MANY)
    assert then["baseline"] == "value" and preset("sft_pg", **then) == PolicyGradientConfig()


def test_both_stages_have_the_same_studies():
    names = [{path.stem for path in (STUDIES / stage).glob("*.json")} for stage in STAGES]
    assert names[0] == names[1] and len(names[0]) > 1


@pytest.mark.parametrize("word", ["held", "fixed"])
def test_both_words_for_what_a_study_fixed_are_read(word, tmp_path, monkeypatch):
    monkeypatch.setattr(tuned_module, "STUDIES", tmp_path)
    write_json(tmp_path / FEW / f"new_{word}.json", {"problem": {word: {"a": 1, "b": 2}}, "changes": {"b": 3}})
    assert tuned(f"new_{word}") == {"a": 1, "b": 3}


def test_an_unknown_study_lists_those_there_are():
    assert has_study("ppo", FEW) and not has_study("sarsa", FEW)
    with pytest.raises(FileNotFoundError, match=r"No study 'sarsa' .*'ppo', 'reinforce'.*tune and copy its best.json"):
        study("sarsa")
