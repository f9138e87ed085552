"""What is compiled before the tests."""

from mann_bench.kernels.native import build
from tests.support import builds


def test_all_are_compiled_where_one_cannot_be(monkeypatch, capsys):
    asked = []

    def fail_once(kind):
        asked.append(kind)
        if kind == builds.KINDS[1]:
            raise build.BuildError("no such luck")

    monkeypatch.setattr(build, "build", fail_once)
    builds.main()
    assert sorted(asked) == sorted(set(builds.KINDS))
    assert capsys.readouterr().out == "no such luck\n"
