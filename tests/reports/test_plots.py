"""What plots share: colours, labels of curves, ticks, marks of warnings."""

import re
from itertools import combinations, pairwise
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from typer.testing import CliRunner

from mann_bench.cli.app import app
from mann_bench.data.errors import UsageError
from mann_bench.reports.data.axes import AXES, find_axis
from mann_bench.reports.data.frame import load_frame
from mann_bench.reports.html.colors import COLORS, colors_of
from mann_bench.reports.html.panel_data import MOST_CURVES
from mann_bench.reports.html.panels import draw
from mann_bench.reports.html.plot_files import WIDTHS, PlotFiles, write_plots
from mann_bench.reports.scaling.analysis import analyse_frame
from mann_bench.reports.scaling.figures import plots_of, to_latex
from mann_bench.reports.scaling.multiples import MOST_PANELS, all_multiples
from tests.support.results import make_result


def drawn(frame, columns=2, axis="slots"):
    """The plot of time, and what it was drawn from."""
    time = next(figure for figure in all_multiples(analyse_frame(frame, ""), axis, colors_of(frame)) if figure.key == "time")
    return draw(time, columns), time


def multiples_of(frame, axis="slots", baseline=""):
    """All static plots of a frame."""
    return list(all_multiples(analyse_frame(frame, baseline), axis, colors_of(frame)))


def curve(model, sizes=(64, 256, 1024), **changes):
    return [make_result(model, n, ms=n / 64, **changes) for n in sizes]


def test_a_curve_has_one_colour_and_a_model_one_hue(frame_of):
    models = ("mine:A", "mine:B", "mine:C", "mine:D", "mine:E")
    frame = frame_of(
        *curve("ntm"), *curve("ntm", variant="compiled"), *curve("sam"), *curve("sam", index="lsh"), *(make_result(name) for name in models)
    )
    colors = colors_of(frame)
    assert colors["ntm"] == colors["ntm-compiled"] == COLORS["ntm"]
    assert colors["sam exact"] == COLORS["sam"]
    assert colors["sam lsh"] not in (*COLORS.values(), "#ffffff")
    assert len({colors[name] for name in models}) == len(models)


def test_runs_of_a_model_differ_in_shade(tmp_path):
    for name in ("here", "there", "beyond"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in curve("sam")))
    colors = colors_of(load_frame([tmp_path / name for name in ("here", "there", "beyond")]))
    assert len(set(colors.values())) == 3
    assert all(min(to_rgb(color)) < 0.75 for color in colors.values())


def boxes_of(figure):
    """The places of all texts of a figure, in pixels, by their order on the page."""
    FigureCanvasAgg(figure).draw()
    texts = [text for axes in figure.axes for text in axes.texts] + list(figure.texts)
    for axes in figure.axes:
        texts += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()]
    return [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text().strip()]


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("name", ["sam", "my_models:AModelWithALongName{:02}", "m{:02}"])
def test_every_text_is_in_the_picture_and_touches_no_other(frame_of, columns, name):
    frame = frame_of(*(result for number in range(30 if "{" in name else 1) for result in curve(name.format(number))))
    figure, multiples = drawn(frame, columns)
    assert figure.get_size_inches()[0] == WIDTHS[columns]
    boxes = boxes_of(figure)
    labels = {look.name for panel in multiples.panels for look in panel.looks.values()}
    assert labels == set(frame["curve"])
    assert labels <= {text for text, _ in boxes}
    outside = [text for text, box in boxes if box.x0 < 0 or box.x1 > figure.bbox.x1 or box.y0 < 0 or box.y1 > figure.bbox.y1]
    assert outside == []
    slack = figure.dpi / 72  # a point: boxes hold more than the ink
    touching = [
        (one, other)
        for (one, a), (other, b) in combinations(boxes, 2)
        if a.x0 + slack < b.x1 and b.x0 + slack < a.x1 and a.y0 + 1.5 * slack < b.y1 and b.y0 + 1.5 * slack < a.y1
    ]
    assert touching == []


def test_the_middle_of_a_name_that_is_wider_than_the_plot_is_left_out(frame_of):
    figure, _ = drawn(frame_of(*curve("my_models:" + "A" * 90 + "End")), columns=1)
    boxes = boxes_of(figure)
    assert [text for text, box in boxes if box.x1 > figure.bbox.x1] == []
    (shown,) = [text for text, _ in boxes if "…" in text]
    assert shown.startswith("my_models:A")
    assert shown.endswith("AEnd")


def test_long_titles_and_the_ticks_of_a_trade_off_are_whole(frame_of):
    results = [
        make_result("sam", n, ms=n / 5000 * batch, index="lsh", batch=batch, heads=batch, fill=fill, mode=mode, word_size=16 * batch)
        for n in (64, 4096) for batch in (1, 8) for fill in ("full", "empty") for mode in ("train", "infer")
    ]  # fmt: skip
    frame = frame_of(*(result.model_copy(update={"recall": 0.5}) for result in results))
    (recall,) = [figure for figure in multiples_of(frame) if figure.key == "recall"]
    figure = draw(recall, 2)
    boxes = boxes_of(figure)
    assert [text for text, box in boxes if box.x0 < 0 or box.x1 > figure.bbox.x1] == []
    ticks = [float(tick) for tick in figure.axes[0].get_xticks()]
    assert len(ticks) >= 3
    assert len({round(after / before, 6) for before, after in pairwise(ticks)}) == 1


@pytest.mark.parametrize(("rates", "ticks"), [((1, 3), ["2", "3"]), ((1, 1.05), ["1.2", "1.25"]), ((1, 10**6), ["1", "10", "100"])])
def test_ticks_of_values_are_round(frame_of, rates, ticks):
    pairs = zip(("sam", "ntm"), rates, strict=True)
    figure, _ = drawn(frame_of(*(make_result(name, n, ms=rate * 1.2) for name, rate in pairs for n in (64, 256))))
    FigureCanvasAgg(figure).draw()
    low, high = figure.axes[0].get_ylim()
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels() if low <= label.get_position()[1] <= high]
    assert shown[: len(ticks)] == ticks


def test_a_panel_has_at_most_six_curves_and_a_figure_says_what_it_leaves_out(frame_of):
    frame = frame_of(*(result for number in range(50) for result in curve(f"m{number:02}")), *curve("sam", batch=3))
    figure, multiples = drawn(frame)
    assert len(figure.axes) == len(multiples.panels) == MOST_PANELS
    assert {len(panel.looks) for panel in multiples.panels} == {MOST_CURVES}
    assert multiples.note == "Not shown: 14 more curves and 1 more setting."
    shown = " ".join(text.get_text() for text in figure.texts)
    assert f"{multiples.note} Grey: the curves of the other panels. Ring: the case has a warning." in shown


def test_settings_are_panels_with_common_axes(frame_of):
    figure, multiples = drawn(frame_of(*curve("sam"), *curve("ntm"), *curve("sam", batch=8)))
    assert multiples.subtitle == "training, 10 steps, memory full"
    assert [panel.title for panel in multiples.panels] == ["batch 1", "batch 8"]
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim()
    assert first.get_ylim() == second.get_ylim()


FOUR = ("memory_per_step", "time", "times_faster", "times_smaller")
FIELDS = {"steps": 10, "batch": 1, "word_size": 16, "heads": 1, "reads": 4, "hidden": 50, "threads": 1}


@pytest.mark.parametrize("field", [field for field in AXES if field != "slots"])
def test_a_sweep_over_any_field_is_a_curve(frame_of, field):
    values = (FIELDS[field], 2 * FIELDS[field], 5 * FIELDS[field])
    changes: list[dict[str, Any]] = [{field: v} for v in values]
    sweep = [make_result(model, n, ms=change[field], **change) for model in ("sam", "ntm") for n in (64, 256) for change in changes]
    frame = frame_of(*sweep)
    figure, multiples = drawn(frame, axis=find_axis(frame, field))
    assert [panel.title for panel in multiples.panels] == ["64 slots", "256 slots"]
    for panel in multiples.panels:
        for name in ("sam", "ntm"):
            assert list(panel.rows.loc[panel.rows["curve"] == name, "x"]) == list(values)
            assert list(panel.rows.loc[panel.rows["curve"] == name, "y"]) == list(values)
    assert figure.axes[0].get_xlabel() == AXES[field]
    ratios = next(one for one in multiples_of(frame, field) if one.key == "times_faster")
    assert {name for panel in ratios.panels for name in panel.looks} == {"sam : ntm"}
    assert {x for panel in ratios.panels for x in panel.rows["x"]} == set(values)


def test_the_field_is_named_or_given_by_its_letter(frame_of):
    frame = frame_of(make_result(steps=10), make_result(steps=20))
    assert find_axis(frame, "T") == find_axis(frame, "steps") == "steps"
    assert find_axis(frame, "N") == "slots"
    assert find_axis(frame, "") == "steps"
    assert find_axis(frame_of(make_result(slots=64), make_result(slots=128), make_result(batch=2)), "") == "slots"
    assert find_axis(frame_of(make_result()), "") == "slots"
    for name in ("B", "nonsense"):
        with pytest.raises(UsageError, match=rf"--x: expected a field that the run varies \(slots, steps\), got '{name}'"):
            find_axis(frame, name)


def test_nothing_is_drawn_where_nothing_was_measured(frame_of):
    failed = make_result("dnc", 1024, status="oom", reason="full")
    figure, multiples = drawn(frame_of(*curve("sam", (64, 256, 2**20)), *curve("sdnc", (64, 256)), *curve("dnc", (64, 256)), failed))
    inside = [line.get_xdata() for line in figure.axes[0].lines if line.get_transform() == figure.axes[0].transData]
    assert sorted(float(max(xs)) for xs in inside if len(xs)) == [256, 256, 2**20]
    remarks = {look.name: look.remark for look in multiples.panels[0].looks.values()}
    assert remarks == {"sam": "O(sqrt N), 3 sizes only", "sdnc": "to 256", "dnc": "oom at 1k"} | {"sam": remarks["sam"]}
    assert multiples_of(frame_of(make_result("sam", status="oom", reason="full"))) == []


@pytest.mark.parametrize("sizes", [(100, 150, 225), (64, 65, 2**24), tuple(2**n for n in range(4, 28)), (1000,)])
def test_ticks_are_measured_sizes_that_do_not_touch(frame_of, sizes):
    figure, _ = drawn(frame_of(*curve("sam", sizes)), columns=1)
    (axes,) = figure.axes
    FigureCanvasAgg(figure).draw()
    labels = [label for label in axes.get_xticklabels() if label.get_text()]
    assert labels
    assert {int(tick) for tick in axes.get_xticks()} <= set(sizes)
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))


def test_a_warning_is_a_ring_around_its_point(frame_of):
    plain, warned = make_result("sam", 64), make_result("sam", 256)
    plain = plain.model_copy(update={"time": plain.time.model_copy(update={"pass_ms": plain.time.pass_ms.model_copy(update={"count": 9})})})
    frame = frame_of(plain, warned.model_copy(update={"warnings": ["processor 3 was shared"]}))
    assert frame["warnings"].iloc[1].startswith("processor 3 was shared. ")
    figure, _ = drawn(frame)
    rings = [points for points in figure.axes[0].collections if len(points.get_facecolors()) == 0]
    warned_points = [len(points.get_offsets()) for points in rings]
    assert sum(warned_points) == int((frame["warnings"] != "").sum())


def test_bands_are_the_intervals_of_the_medians(frame_of):
    figure, multiples = drawn(frame_of(*curve("sam")))
    (band,) = [part for part in figure.axes[0].collections if part.get_alpha() == 0.2]
    rows = multiples.panels[0].rows
    heights = band.get_paths()[0].vertices[:, 1]
    assert {round(float(y), 9) for y in heights} == {round(float(y), 9) for y in [*rows["low"], *rows["high"]]}


def test_values_that_are_no_numbers_leave_the_others(frame_of):
    analysis = analyse_frame(frame_of(*curve("sam"), *curve("ntm")))
    analysis.frame.loc[0, "step_ms_median"], analysis.frame.loc[1, "step_ms_median"] = float("nan"), float("inf")
    multiples = next(figure for figure in all_multiples(analysis, "slots", colors_of(analysis.frame)) if figure.key == "time")
    draw(multiples)
    assert sorted(multiples.panels[0].rows["curve"]) == ["ntm", "ntm", "ntm", "sam"]


def test_the_table_for_a_paper_holds_the_numbers_of_the_plot(frame_of):
    _, multiples = drawn(frame_of(*curve("my:Model_1 & more"), *curve("sam", (64, 2**20))))
    table = to_latex(multiples)
    rows = [line for line in table.splitlines() if line.endswith(r"\\")]
    assert rows[0] == r"memory slots N & 64 & 256 & 1k & 1M \\"
    assert r"my:Model\_1 \& more & ${1}_{0.99}^{1.01}$ & ${4}_{3.96}^{4.04}$ & ${16}_{15.8}^{16.2}$ &  \\" in rows
    assert r"sam & ${1}_{0.99}^{1.01}$ &  &  & ${16{,}384}_{16{,}220}^{16{,}548}$ \\" in rows
    columns = {line.replace(r"\&", "").count("&") for line in rows}
    assert columns == {4}
    assert r"\begin{tabular}{lrrrr}" in table


def parsed(latex):
    """The cells of a LaTeX table by row; AssertionError if an environment, a brace, a dollar sign or a row is not whole."""
    depth, opened, in_math = 0, [], False
    text = re.sub(r"^%.*$", "", latex, flags=re.MULTILINE)
    for token in re.findall(r"\\begin\{\w+\}|\\end\{\w+\}|\\.|[{}$]", text):
        if token.startswith(r"\begin"):
            opened.append(token[6:])
        elif token.startswith(r"\end"):
            assert opened.pop() == token[4:]
        elif token in "{}":
            depth += 1 if token == "{" else -1
            assert depth >= 0
        elif token == "$":
            in_math = not in_math
    assert (depth, opened, in_math) == (0, [], False)
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", text)
    body = re.sub(r"\\(begin\{tabular\}\{\w+\}|end\{tabular\}|(top|mid|bottom)rule)", "", text)
    rows = [re.split(r"(?<!\\)&", row) for row in body.split(r"\\")[:-1]]
    for row in rows:
        width = sum(int(found.group(1)) if (found := re.search(r"\\multicolumn\{(\d+)\}", cell)) else 1 for cell in row)
        assert width == len(columns), row
        for cell in row:
            outside = re.sub(r"\$.*?\$", "", cell)
            assert not re.search(r"(?<!\\)[#%_^&~]", outside), cell  # a character that LaTeX would act on
    return [[cell.strip() for cell in row] for row in rows]


def test_a_table_for_a_paper_is_whole_whatever_the_names_are(frame_of):
    results = [*curve("my:A_%$#{}~^\\B & more"), *curve("sam", index="lsh"), *curve("ntm"), *curve("sam", batch=8)]
    results = [result.model_copy(update={"recall": 0.5}) for result in results]
    tables = {figure.key: parsed(to_latex(figure)) for figure in multiples_of(frame_of(*results))}
    assert {*FOUR, "recall", "front"} <= set(tables)
    assert [row[1:] for row in tables["time"] if row[0] == "ntm"] == [
        ["${1}_{0.99}^{1.01}$", "${4}_{3.96}^{4.04}$", "${16}_{15.8}^{16.2}$"]
    ]


@pytest.mark.parametrize("broken", ["{", "$", r"\end{tabular}", r"a & b & c & d & e & f & g \\", "50 % of it & & \\\\"])
def test_a_table_that_is_not_whole_is_found(frame_of, broken):
    (table,) = [to_latex(figure) for figure in multiples_of(frame_of(*curve("sam"))) if figure.key == "time"]
    parsed(table)
    with pytest.raises((AssertionError, IndexError)):
        parsed(table.replace("\\midrule", f"\\midrule {broken}", 1))


FORMATS = [("png",), ("svg",), ("pdf",), ("tex", "pdf"), ("pdf", "svg", "tex", "png")]


@pytest.mark.parametrize(("formats", "shown"), [*zip(FORMATS, ("png", "svg", "pdf", "pdf", "png"), strict=True)])
def test_the_formats_asked_for_are_written_and_equal_for_equal_results(frame_of, tmp_path, formats, shown):
    figures = multiples_of(frame_of(*curve("sam"), *curve("ntm")))[:2]
    texts = [write_plots(plots_of(figures, 1), tmp_path / out, PlotFiles(formats, 1), inline=False) for out in ("one", "two")]
    assert texts[0] == texts[1]
    assert [(text.file, text.is_image) for text in texts[0]] == [
        (f"plots/{key}.{shown}", shown in ("png", "svg")) for key in ("memory_per_step", "time")
    ]
    written = sorted((tmp_path / "one" / "plots").iterdir())
    assert {path.suffix[1:] for path in written} == set(formats)
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "tex": b"% "}
    assert all(path.read_bytes().startswith(begins[path.suffix[1:]]) for path in written)
    assert all(path.read_bytes() == (tmp_path / "two" / "plots" / path.name).read_bytes() for path in written)


def test_a_report_against_a_field_in_the_format_of_a_paper(tmp_path):
    results = [make_result(model, steps=steps) for model in ("sam", "ntm") for steps in (10, 20)]
    (tmp_path / "results.jsonl").write_text("".join(result.to_line() + "\n" for result in results))
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--x", "T", "--format", "pdf", "--columns", "1"])
    assert done.exit_code == 0, done.output
    out = tmp_path / "report"
    assert sorted(path.name for path in (out / "plots").iterdir()) == [f"{name}.pdf" for name in FOUR]
    markdown = (out / "report.md").read_text()
    assert [line for line in markdown.splitlines() if "](plots/time.pdf)" in line] == [
        "[Time per step, training, batch 1, memory full, 64 slots](plots/time.pdf)"
    ]
    views = re.findall(r'<option value="(\w+)\|[^"]*"( selected)?', (out / "report.html").read_text())
    assert views[0] == ("steps", " selected")


@pytest.mark.parametrize(("formats", "columns", "message"), [(("gif",), 2, "got gif"), (("png",), 3, "got 3")])
def test_formats_and_widths_that_there_are_not(formats, columns, message):
    with pytest.raises(UsageError, match=f"expected .* {message}"):
        PlotFiles(formats, columns)
