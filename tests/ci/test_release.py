"""A release is refused until everything about it is right, and uploads only when told to."""

import subprocess

import pytest

import release

GIT = ["git", "-c", "user.name=Nobody", "-c", "user.email=nobody@example.com"]


def git(root, *arguments):
    subprocess.run([*GIT, *arguments], cwd=root, check=True, capture_output=True)


def write(root, version="1.2.3", heading="## 1.2.3 (2026-01-31)"):
    (root / "keras_sfn").mkdir(exist_ok=True)
    (root / "keras_sfn" / "version.py").write_text(f'__version__ = "{version}"\n')
    (root / "CHANGELOG.md").write_text(
        f"# Changelog\n\n{heading}\n\n- Text.\n\n## 1.2.2 (2025-01-01)\n"
    )


@pytest.fixture
def root(tmp_path, monkeypatch):
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Nobody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "nobody@example.com")
    write(tmp_path)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "--quiet", "-m", "All")
    return tmp_path


def commit(root, **texts):
    write(root, **texts)
    git(root, "commit", "--quiet", "-a", "-m", "More")


def test_a_clean_tree_with_a_dated_section_is_the_version(root):
    assert release.check(root) == "1.2.3"


def test_a_tree_with_changes_is_refused(root):
    (root / "new.py").write_text("")
    with pytest.raises(release.ReleaseError, match=r"(?s)must be clean.*new\.py"):
        release.check(root)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"version": "1.3.0"}, "must agree. Received: 1.3.0 and 1.2.3"),
        ({"heading": "## 1.2.3 (unreleased)"}, "must have the date of the release"),
        ({"heading": "## Next"}, "must be headed .* Received: ## Next"),
        ({"heading": "## 1.2.3"}, "must be headed .* Received: ## 1.2.3"),
    ],
)
def test_a_changelog_of_something_else_is_refused(root, texts, message):
    commit(root, **texts)
    with pytest.raises(release.ReleaseError, match=message):
        release.check(root)


def test_a_version_that_has_its_tag_is_refused(root):
    git(root, "tag", "v1.2.3")
    with pytest.raises(release.ReleaseError, match=r"v1\.2\.3 exists"):
        release.check(root)


@pytest.fixture
def commands(root, monkeypatch):
    """What a release would run, with a build that only names its files."""
    run = []
    monkeypatch.setattr(release, "build", lambda root, version: [root / f"dist/{version}.whl"])
    monkeypatch.setattr(
        release, "run", lambda *command, cwd: run.append([str(part) for part in command])
    )
    return run


def test_nothing_is_uploaded_unless_told(root, commands, capsys):
    assert release.main([], root) == 0
    assert [command[:2] for command in commands] == [["git", "tag"]]
    assert "nothing was uploaded" in capsys.readouterr().out


def test_upload_hands_the_files_to_twine_and_pushes_the_tag(root, commands):
    assert release.main(["--upload"], root) == 0
    assert commands[1][1:] == ["-m", "twine", "upload", str(root / "dist/1.2.3.whl")]
    assert commands[2] == ["git", "push", "origin", "v1.2.3"]


def test_a_build_that_fails_leaves_no_tag(root, monkeypatch, capsys):
    def build(root, version):
        release.run("false", cwd=root)

    monkeypatch.setattr(release, "build", build)
    assert release.main([], root) == 1
    assert "No release: This failed: false" in capsys.readouterr().err
    assert release.git(root, "tag") == ""
