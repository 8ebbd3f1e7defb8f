"""The dashboard as a learner meets it: a real JupyterLab, a real cluster, a real browser.

Skipped where there is no Chromium, except in CI, where a missing browser is a failure.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import lab

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        lab.chromium() is None and not os.environ.get("CI"), reason="there is no Chromium here"
    ),
    # Playwright closes its event loop after its own threads have ended.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
if not os.environ.get("CI"):
    pytest.importorskip("playwright")
    pytest.importorskip("jupyterlab")

STEP = 10_000


@pytest.fixture
def cluster():
    """The shared local cluster, which the notebook finds by its connection file."""
    import superlearner as sl
    from superlearner.cluster.local import start_daemon, stop_daemon

    connection = start_daemon(["alpha", "beta", "gamma"], detached=True)
    cluster = sl.connect()
    try:
        yield cluster
    finally:
        cluster.close()
        stop_daemon(connection)


@pytest.fixture
def page(cluster, tmp_path):
    """The dashboard notebook, opened and run in Lab."""
    shutil.copy(lab.ROOT / "notebooks" / "dashboard.ipynb", tmp_path)
    with lab.jupyterlab(tmp_path) as url, lab.browser_page() as page:
        page.set_default_timeout(STEP)
        lab.open_notebook(page, url, "dashboard.ipynb")
        lab.run_all(page)
        page.locator(".sl-nodes").scroll_into_view_if_needed()
        yield page
        picture(page, "last")


def picture(page, name: str) -> None:
    """Keep a picture for whoever looks, where SUPERLEARNER_SCREENSHOTS says."""
    folder = os.environ.get("SUPERLEARNER_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def wait_for_status(page, text: str) -> None:
    page.locator(".sl-actions .sl-status", has_text=text).wait_for()


def card(name: str) -> str:
    return f".sl-nodes [data-key='{name}']"


def box(name: str) -> str:
    return f".sl-tree [data-key$='/{name}']"


def pid(page, selector: str) -> str:
    return page.locator(selector).get_attribute("data-pid")


def wait_for_other_pid(page, selector: str, before: str) -> None:
    """Wait until something runs there that is not `before`."""
    page.wait_for_function(
        "([s, old]) => { const e = document.querySelector(s); return e?.dataset.pid && e.dataset.pid !== old }",
        arg=[selector, before],
    )


def a_card_for_each_node_shows_that_it_is_up(page):
    for name in ("alpha", "beta", "gamma"):
        page.locator(f"{card(name)}[data-status=up]").wait_for()
    assert page.locator(".sl-nodes .sl-origin").inner_text() == "real"
    picture(page, "1-nodes")


def create_starts_a_sandbox_whose_tree_appears(page, cluster):
    page.click("[data-action=create]")
    wait_for_status(page, "It is called shop.")
    page.locator(".sl-sandboxes [data-key=shop][data-status=running][aria-selected=true]").wait_for()
    page.locator(box("counter")).wait_for()
    page.locator(".sl-feed li", has_text="shop/counter started").wait_for()
    picture(page, "2-created")
    assert cluster.sandbox("shop").call("counter", "increment") == 1


def a_killed_process_comes_back_in_its_box_with_another_pid(page):
    before = pid(page, box("counter"))
    page.click(box("counter"))
    page.locator(".sl-actions .sl-of", has_text="Process counter").wait_for()
    page.click("[data-action=kill_process]")
    wait_for_status(page, "done in")
    wait_for_other_pid(page, box("counter"), before)
    picture(page, "3-process-killed")
    page.locator(".sl-feed li", has_text="counter died (killed, from outside)").wait_for()


def the_keyboard_moves_over_the_tree_and_enter_selects(page):
    active = "[...document.querySelectorAll('.jp-Cell')].findIndex(e => e.matches('.jp-mod-active'))"
    page.locator(".sl-tree svg").focus()
    cell, cells = page.evaluate(active), page.locator(".jp-Cell").count()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")  # in Lab's command mode this would cut the cell
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.locator(".sl-tree [aria-level='1'][aria-selected=true]").wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator(f"{box('counter')}[aria-selected=true]").wait_for()
    assert (page.evaluate(active), page.locator(".jp-Cell").count()) == (cell, cells)


def killing_a_node_asks_first_and_then_it_comes_back_and_the_sandbox_lives_on(page, cluster):
    home = cluster.sandbox("shop").info().node
    before = pid(page, card(home))
    page.click(card(home))
    page.locator(".sl-actions .sl-of", has_text=f"Node {home}").wait_for()
    page.click("[data-action=kill_node]")
    page.locator(".sl-actions .sl-sure", has_text=f"Yes, kill {home}").wait_for()
    assert pid(page, card(home)) == before  # the first click only asks
    picture(page, "4-node-asked")
    page.click(".sl-actions .sl-sure")
    wait_for_status(page, f"Killing node {home} … done in")
    picture(page, "5-node-killed")
    wait_for_other_pid(page, card(home), before)
    page.locator(f"{card(home)}[data-status=up]").wait_for()
    page.locator(".sl-sandboxes [data-key=shop][data-status=running]").wait_for()
    picture(page, "6-node-back")
    info = cluster.sandbox("shop").info()
    assert info.node != home
    assert info.epoch >= 2


def a_double_click_does_a_thing_once(page, cluster):
    count = len(cluster.sandboxes())
    page.dblclick("[data-action=create]")
    wait_for_status(page, "It is called shop-2.")
    assert len(cluster.sandboxes()) == count + 1


def destroy_asks_first_and_no_means_no(page, cluster):
    page.click(".sl-sandboxes [data-key=shop-2]")
    page.locator(".sl-actions .sl-of", has_text="Sandbox shop-2").wait_for()
    page.click("[data-action=destroy]")
    page.locator(".sl-actions .sl-sure", has_text="Yes, destroy shop-2").wait_for()
    page.get_by_role("button", name="No", exact=True).click()
    wait_for_status(page, "not done")
    assert [info.id for info in cluster.sandboxes()] == ["shop", "shop-2"]
    page.click("[data-action=destroy]")
    page.click(".sl-actions .sl-sure")
    wait_for_status(page, "Destroying shop-2 … done in")
    page.locator(".sl-sandboxes [data-key=shop-2]").wait_for(state="detached")
    assert [info.id for info in cluster.sandboxes()] == ["shop"]


def a_button_that_cannot_work_says_why(page):
    button = page.locator("[data-action=kill_process]")
    page.wait_for_function("document.querySelector('[data-action=kill_process]').ariaDisabled === 'true'")
    assert "Select a process" in button.get_attribute("title")
    button.click(force=True)
    wait_for_status(page, "Select a process in the tree first.")


def a_paused_node_is_suspected_then_replaced_then_back(page, cluster):
    home = cluster.sandbox("shop").info().node
    page.click(card(home))
    page.locator(".sl-actions .sl-of", has_text=f"Node {home}").wait_for()
    page.select_option("[data-choice=pause_node]", "")  # until healed
    page.click("[data-action=pause_node]")
    wait_for_status(page, f"node {home} is frozen.")
    page.locator(f"{card(home)}[data-status=suspected][data-flags=paused]").wait_for()
    page.locator(f"{card(home)} .sl-trouble", has_text="its lease has surely ended at").wait_for()
    picture(page, "8-node-suspected")
    page.locator(f"{card(home)}[data-status=down]").wait_for()
    page.locator(f"{card(home)} .sl-trouble", has_text="longer than its lease").wait_for()
    page.locator(".sl-sandboxes [data-key=shop][data-status=running]").wait_for()
    alert = ".sl-alerts [data-key^='node_failure-']"
    page.locator(alert, has_text=f"critical: Node {home} cannot be reached").wait_for()
    page.locator(".sl-alerts .sl-advice", has_text=f"Node {home} cannot be reached: look at").wait_for()
    page.locator(
        ".sl-alerts .sl-warn.sl-summary, .sl-alerts .sl-bad.sl-summary", has_text=" of 100"
    ).wait_for()
    picture(page, "9-node-replaced")
    page.locator(alert).get_by_role("button", name="Acknowledge").click()
    wait_for_status(page, "Acknowledging node_failure-")
    page.locator(f"{alert}[data-known]", has_text="knows since").wait_for()
    assert page.locator(alert).get_by_role("button").count() == 0
    picture(page, "9a-acknowledged")
    assert [alert.acknowledged is not None for alert in cluster.alerts("firing")] == [True]
    assert cluster.sandbox("shop").info().node != home
    page.locator(".sl-faults [data-kind=pause_node]").get_by_role("button").click()
    wait_for_status(page, "Ending pause_node")
    page.locator(f"{card(home)}[data-status=up]").wait_for()
    page.locator(".sl-faults .sl-none").wait_for()
    page.locator(".sl-alerts .sl-none", has_text="None is firing.").wait_for()
    picture(page, "10-node-woken")


def a_partition_takes_the_quorum_and_heal_gives_it_back(page, cluster):
    page.select_option("[data-choice=partition]", "scheduler")
    page.locator("[data-action=partition]").focus()
    page.keyboard.press("Enter")
    wait_for_status(page, "the cluster falls apart into")
    page.locator(".sl-nodes .sl-summary", has_text="NO quorum (1 of 3 reachable, policy quorum)").wait_for()
    page.click("[data-action=create]")
    wait_for_status(page, "Creating a sandbox failed: Only 1 of 3 nodes can be reached: no quorum.")
    picture(page, "11-no-quorum")
    page.click("[data-action=heal]")
    wait_for_status(page, "1 fault ended.")
    page.locator(".sl-nodes .sl-summary", has_text=", quorum (3 of 3 reachable, policy quorum)").wait_for()
    page.locator(".sl-sandboxes [data-key=shop][data-status=running]").wait_for()
    picture(page, "12-healed")
    assert cluster.chaos.faults() == []


def the_pictures_live_through_the_end_of_the_scheduler(page, cluster):
    before = pid(page, card("alpha"))
    cluster.chaos.kill_scheduler()
    wait_for_other_pid(page, card("alpha"), before)
    page.locator(".sl-nodes .sl-summary", has_text="control plane running").wait_for()
    page.locator(".sl-sandboxes [data-key=shop][data-status=running]").wait_for()
    page.locator(".sl-feed li", has_text="SIGKILL to the scheduler").wait_for()
    assert page.locator(".sl-nodes .sl-note").inner_text() == ""
    picture(page, "13-scheduler-back")


def the_pictures_are_still_there_and_live_after_the_page_is_loaded_again(page, cluster):
    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    page.goto(page.url)
    page.locator(f"{card('alpha')}[data-status=up]").wait_for()
    cluster.create_sandbox("from-outside", "superlearner.views.samples:Counter")
    page.locator(".sl-sandboxes [data-key=from-outside][data-status=running]").wait_for()
    picture(page, "7-reloaded")


def test_a_learner_can_see_a_cluster_break_it_and_watch_it_come_back(page, cluster):
    """One journey: each step stands on the one before it."""
    a_card_for_each_node_shows_that_it_is_up(page)
    create_starts_a_sandbox_whose_tree_appears(page, cluster)
    a_killed_process_comes_back_in_its_box_with_another_pid(page)
    the_keyboard_moves_over_the_tree_and_enter_selects(page)
    killing_a_node_asks_first_and_then_it_comes_back_and_the_sandbox_lives_on(page, cluster)
    a_double_click_does_a_thing_once(page, cluster)
    destroy_asks_first_and_no_means_no(page, cluster)
    a_button_that_cannot_work_says_why(page)
    a_paused_node_is_suspected_then_replaced_then_back(page, cluster)
    a_partition_takes_the_quorum_and_heal_gives_it_back(page, cluster)
    the_pictures_live_through_the_end_of_the_scheduler(page, cluster)
    the_pictures_are_still_there_and_live_after_the_page_is_loaded_again(page, cluster)
