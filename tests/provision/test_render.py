"""Templates are strict, and say where they are wrong."""

from pathlib import Path

import pytest

from provision.render import TemplateError, render_template


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nport {{ prot }}\n", r"a\.j2:2: 'prot' is undefined"),
        ("a\n\n{% if port %}\n", r"a\.j2:3: Unexpected end of template"),
        ("{% include 'b.j2' %}\n", r"no template .*b\.j2"),
    ],
)
def test_a_mistake_in_a_template_names_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.j2").write_text(text)
    with pytest.raises(TemplateError, match=message):
        render_template("a.j2", {"port": 4730}, tmp_path)


def test_a_missing_name_in_an_included_template_names_that_template(tmp_path: Path) -> None:
    (tmp_path / "a.j2").write_text("one\n{% include 'b.j2' %}")
    (tmp_path / "b.j2").write_text("\n\n{{ memory }}")
    with pytest.raises(TemplateError, match=r"b\.j2:3: 'memory' is undefined"):
        render_template("a.j2", {}, tmp_path)


def test_what_is_rendered_keeps_its_last_newline(tmp_path: Path) -> None:
    (tmp_path / "a.j2").write_text("port {{ port }}\n")
    assert render_template("a.j2", {"port": 4730}, tmp_path) == "port 4730\n"
