"""What a result was made with."""

import json

from benchmarks.comparison import manifest as module
from benchmarks.comparison.manifest import manifest


def test_a_manifest_is_json_and_names_versions_machine_and_commit():
    found = json.loads(json.dumps(manifest()))
    assert found["versions"]["torch"] and found["machine"]["cores"] >= 1
    assert found["commit"] == "unknown" or len(found["commit"].removesuffix("+")) == 12


def test_without_git_the_commit_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert manifest()["commit"] == "unknown"


def test_new_results_are_no_change_of_the_code():
    assert ":(top,exclude)benchmarks/results" in module.CODE
