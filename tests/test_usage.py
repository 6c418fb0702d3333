"""Wrong words on the command line: one line that says what is wrong, status 1, no host asked."""

import pytest
from invoke.program import Program

from tasks import namespace

LAB = ["--hosts", "inventory/lab"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", *LAB, "--parallel", "x"], "--parallel should be a whole number, not 'x'"),
        (["plan", *LAB, "--parallel", "0"], "--parallel 0: say 1 or more"),
        (["plan", *LAB, "--limit", ""], "--limit is empty: give it a value, or leave it out"),
        (["plan", *LAB, "--limit", ","], "--limit ,: it names nobody; without it, all are meant"),
        (["plan", *LAB, "--tags", ","], "--tags ,: it names nothing; without it, all is meant"),
        (["upgrade", *LAB, "--settle", "soon"], "--settle should be a number, not 'soon'"),
        (["upgrade", *LAB, "--settle", "nan"], "--settle nan: say 0 to 3600 seconds"),
        (["upgrade", *LAB, "--max-fail", "-1"], "--max-fail -1: say 0 or more"),
        (["upgrade", *LAB, "--batch", "0"], "--batch 0: say a number of hosts, or a share as 25%"),
        (["smoke", *LAB, "--patience", "0"], "--patience 0: say 1 second or more"),
        (["run", *LAB, "--seconds", "0"], "--seconds 0: say more than 0"),
        (["logs", ""], "name is empty: give it a value, or leave it out"),
    ],
)
def test_wrong_usage_is_told_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        Program(namespace=namespace).run(["invoke", *words])
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"invoke: {message}\n"
