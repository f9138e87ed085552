"""What plots share: colours, labels of curves, ticks, marks of warnings."""

from itertools import pairwise
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from mann_bench.reports.data.frame import load_frame
from mann_bench.reports.data.quantity import TIME
from mann_bench.reports.html.plots import COLORS, colors_of
from mann_bench.reports.scaling.slots_plots import draw_quantity
from tests.support.results import make_result


def drawn(frame):
    """The time plot of the only setting."""
    (setting,) = frame["setting"].unique()
    return draw_quantity(frame, TIME, {}, setting, colors_of(frame))


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


def test_every_label_is_in_the_picture_and_touches_no_other(frame_of):
    frame = frame_of(*(result for number in range(30) for result in curve(f"my_models:AModelWithALongName{number:02}")))
    figure = drawn(frame)
    (axes,) = figure.axes
    renderer: Any = FigureCanvasAgg(figure).get_renderer()
    boxes = sorted((text.get_window_extent(renderer) for text in axes.texts if "Long" in text.get_text()), key=lambda box: box.y0)
    assert len(boxes) == 30
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1 for box in boxes)
    assert all(upper.y0 >= lower.y1 - 3 for lower, upper in pairwise(boxes))


def test_nothing_is_drawn_where_nothing_was_measured(frame_of):
    figure = drawn(frame_of(*curve("sam", (64, 256, 2**20)), *curve("sdnc", (64, 256))))
    (axes,) = figure.axes
    inside = [line.get_xdata() for line in axes.lines if line.get_transform() == axes.transData]
    assert max(float(max(xs)) for xs in inside if len(xs) == 2) == 256
    assert any(text.get_text().endswith("to 256") for text in axes.texts)
    empty = drawn(frame_of(make_result("sam", status="oom", reason="full")))
    assert not empty.axes[0].axison


@pytest.mark.parametrize("sizes", [(100, 150, 225), (64, 65, 2**24), tuple(2**n for n in range(4, 28)), (1000,)])
def test_ticks_are_measured_sizes_that_do_not_touch(frame_of, sizes):
    figure = drawn(frame_of(*curve("sam", sizes)))
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
    rings = [points for points in drawn(frame).axes[0].collections if len(points.get_facecolors()) == 0]
    warned_points = [len(points.get_offsets()) for points in rings]
    assert sum(warned_points) == int((frame["warnings"] != "").sum())
