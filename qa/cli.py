"""The agent's command line: ``python -m qa.cli`` and ``run_agent_qa.py`` share this :func:`main`.

Heavy modules are imported once the arguments are known to be right, and what the first prompt does not need only while it renders: an idle
GPU costs money from the first second.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from eva_env_base import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    PROJECT_DIR,
    EvaError,
    Settings,
    UsageError,
    WorkflowError,
    add_setting_flags,
    resolve_settings,
    run_door,
    setup_logging,
)

log = logging.getLogger("eva.cli")

DEFAULT_WORKFLOW = PROJECT_DIR / "video_wan2_2_14B_t2v.json"
AGENT_SETTINGS = ("root", "video_dir", "state_dir", "models_dir", "api", "openrouter_key", "budget_minutes", "budget_dollars", "gpu_price")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
PATIENCE = 3.0  # seconds a server may be silent before the agent says so and waits with backoff


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_agent_qa.py",
        description="Generates clips with ComfyUI, scores them, and learns which settings are good.",
        epilog="A budget counts what this run spends, failed tries too; the next run starts with a whole one. No try is begun that is not "
        "expected to fit in what is left, tries under way reckoned. The first limit that is reached, tries or budget, ends the run.",
    )
    run = parser.add_argument_group("the run")
    add = run.add_argument
    add("--workflow", type=Path, metavar="FILE", help=f"text-to-video workflow, API or UI format (default: {DEFAULT_WORKFLOW.name})")
    add("--iterations", type=int, default=0, metavar="N", help="end after N finished or failed tries (default 0: until stopped)")
    add("--seconds", type=float, metavar="S", help="length of a clip (default 5)")
    add("--seed", type=int, metavar="N", help="make the same choices, prompts and noise seeds again")
    add("--space", type=Path, metavar="FILE", help="search space (JSON) in place of the built-in one")
    add(
        "--dimension",
        action="append",
        default=[],
        metavar="NAME=NODE.INPUT:V,V",
        help="choose one more workflow input, like shift=ModelSamplingSD3.shift:5,8; may be given several times",
    )
    add(
        "--levels",
        action="append",
        default=[],
        metavar="AXIS=V,V",
        help="the values of one axis: steps=8,12 gives them, sampler+=lcm adds, size-=1280x720 takes out; may be given several times",
    )
    add(
        "--warm-start",
        metavar="PATH",
        help="start from what another state folder, a knowledge.json or a published prior knows; kept for later runs, 'none' forgets it",
    )
    add("--pack", metavar="NAME", help="prompt pack to draw prompts from: a name that ships, or a file")
    add("--reference-only", action="store_true", help="try only the combos of the reference file, or of the clips marked as reference")
    add("--reference-file", type=Path, metavar="FILE", help="--reference-only with this file (default: reference_params.json of the state)")
    add("--max-failures", type=int, default=5, metavar="N", help="failures in a row until a server rests; 0: never (default 5)")
    add("--job-timeout", type=float, default=7200.0, metavar="S", help="interrupt a longer prompt; 0: never (default 7200)")
    add("--no-oom-retry", action="store_true", help="record a prompt that ran out of memory without trying a smaller one in its place")
    add(
        "--takeover",
        action="store_true",
        help="take over a state folder on a network volume from a process on another machine that you know is gone",
    )
    judge = parser.add_argument_group("judging")
    judge.add_argument("--use-enhanced-analysis", action="store_true", help="add the deep analysis to the score")
    judge.add_argument("--train-improved", action="store_true", help="train the taste model on the ratings first, and use it")
    ways = parser.add_argument_group("instead of a run").add_mutually_exclusive_group()
    ways.add_argument("--status", action="store_true", help="print what was learned and what is going on")
    ways.add_argument("--export-prior", type=Path, metavar="FILE", help="write what was learned, without prompts and names, for others")
    ways.add_argument("--doctor", action="store_true", help="check servers, workflow, folders and Python, and say what to mend")
    parser.add_argument("--log-level", default="INFO", choices=LOG_LEVELS, help="how much main.log holds (default INFO)")
    add_setting_flags(parser, *AGENT_SETTINGS)
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """Raises :class:`UsageError` naming the flag whose value is wrong."""
    if args.iterations < 0:
        raise UsageError(f"--iterations {args.iterations}: give 0 (until stopped) or more")
    if args.seconds is not None and not 0.1 <= args.seconds <= 120:
        raise UsageError(f"--seconds {args.seconds:g}: a clip is 0.1 to 120 s long")
    if args.max_failures < 0:
        raise UsageError(f"--max-failures {args.max_failures}: give 0 (never stop) or more")
    if not 0 <= args.job_timeout < math.inf:
        raise UsageError(f"--job-timeout {args.job_timeout:g}: give 0 (never) or more seconds")


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    settings = resolve_settings(args)
    if args.print_settings:
        print(settings.describe())
        return EXIT_OK
    check_arguments(args)
    if args.status:
        from qa.status import show

        setup_logging("WARNING")
        show(settings.state_dir, load_space(args) if args.space or args.levels or args.dimension else None)
        return EXIT_OK
    if args.export_prior is not None:
        return export_prior(settings.state_dir, args.export_prior)
    if args.doctor:
        from eva_p2.cli_patch import run_doctor

        setup_logging("ERROR")
        return run_doctor(settings, args.workflow or DEFAULT_WORKFLOW, space=load_space(args))
    return run_agent(args, settings)


def load_space(args: argparse.Namespace) -> Any:
    """The search space of a file, or the built-in one, with what the flags change. Raises :class:`UsageError` naming the flag."""
    from dataclasses import replace

    from eva_p1.dimensions import dimension_of_text, merged
    from eva_p1.search_space import SearchSpace, default_space

    flag = "--space"
    try:
        space = SearchSpace.load(args.space) if args.space is not None else default_space()
        flag = "--dimension"
        space = replace(space, extra=merged(space.extra, [dimension_of_text(text) for text in args.dimension]))
        flag = "--levels"
        for text in args.levels:
            space = space.with_levels(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from error
    return space


def workflow_loader(path: Path) -> Any:
    """The graph of an API-format file, or a function from a server's nodes to it for a UI-format file.

    Read once now, so that a missing or malformed file is reported before anything else happens.
    """
    from eva_p1.workflow import is_ui_format, load_workflow, read_json

    data = read_json(path)
    if isinstance(data, dict) and is_ui_format(data):
        return lambda object_info: load_workflow(path, object_info)
    return load_workflow(path)


def export_prior(state_dir: Path, target: Path) -> int:
    """Writes what a state folder knows as a prior; works while an agent runs."""
    from eva_p1.prior import read_prior, write_prior

    setup_logging("WARNING")
    if not state_dir.is_dir():
        raise UsageError(f"--export-prior: there is no state in {state_dir}; name the folder with --state-dir")
    prior = read_prior(state_dir)
    write_prior(prior, target)
    print(f"{len(prior.results)} combos written to {target}")
    return EXIT_OK


def prior_for(args: argparse.Namespace, state_dir: Path) -> Any:
    """What the run starts from: told now, and then kept in the state folder, or kept there by an earlier run."""
    from eva_p1.prior import Prior, keep_prior, kept_prior, read_prior

    if args.warm_start is None:
        return kept_prior(state_dir)
    prior = Prior() if args.warm_start == "none" else read_prior(Path(args.warm_start))
    keep_prior(prior, state_dir)
    return prior


def check_dimensions(workflow: Any, space: Any) -> None:
    """Looks for the user's own dimensions in an API-format graph before anything else happens; a server looks again at their values."""
    if isinstance(workflow, dict) and space.extra:
        from eva_p1.workflow import find_roles
        from eva_p1.workflow_inputs import find_settings

        try:
            find_settings(workflow, space.extra, find_roles(workflow))
        except WorkflowError as error:
            raise UsageError(f"--dimension or --space: {error}") from error


def run_agent(args: argparse.Namespace, settings: Settings) -> int:
    """Builds the agent from the settings and runs it; the exit code."""
    from eva_p1.agent_types import AgentOptions
    from eva_p2.enhanced_logger import FOLDER, AnalysisJournal, close_channels, open_channels
    from eva_state.store import StateStore
    from qa.display import DisplayHandler, make_display
    from qa.patches import qa_policies, reference_params

    space = load_space(args)
    workflow = workflow_loader(args.workflow or DEFAULT_WORKFLOW)
    check_dimensions(workflow, space)
    reference = None
    if args.reference_only or args.reference_file is not None:
        reference = reference_params(args.reference_file, settings.state_dir)
    policies = qa_policies(reference)
    length = {} if args.seconds is None else {"seconds": args.seconds}
    options = AgentOptions(
        max_failures=args.max_failures,
        job_timeout=args.job_timeout or None,
        oom_retry=not args.no_oom_retry,
        budget_minutes=settings.budget_minutes,
        budget_dollars=settings.budget_dollars,
        gpu_price=settings.gpu_price,
        **length,
    )
    make_folder(settings.video_dir, "--video-dir")
    with ExitStack() as stack:
        logs = settings.state_dir / FOLDER
        store = stack.enter_context(StateStore(settings.state_dir, role="agent", video_dir=settings.video_dir, takeover=args.takeover))
        setup_logging(args.log_level, logs / "main.log", console=False)
        stack.callback(close_channels, open_channels(logs))
        journal = AnalysisJournal(logs)
        stack.callback(journal.close)
        display = make_display()
        logging.getLogger().addHandler(DisplayHandler(display))
        prior = prior_for(args, settings.state_dir)
        agent = build_agent(args, settings, store, prior.known_to(space), workflow, policies, options, journal)
        taken = agent.bandit.warm_start(prior.results) if prior.results else 0
        for client in agent.clients:
            stack.callback(client.close)
        display.attach(agent)
        stack.callback(setup_logging, "WARNING")
        with interruptible(agent) as interrupted:
            try:
                with display:
                    if taken:
                        agent.say(f"starts from {taken} combos tried elsewhere")
                    agent.search_v4(args.iterations)
            except EvaError:
                left = len(store.in_flight())
                if left or agent.get_stats_v4()["iterations"]:  # what a night gave is told also where the run could not go on
                    display.end(agent.get_stats_v4(), left)
                raise
            display.end(agent.get_stats_v4(), len(store.in_flight()))
    return EXIT_INTERRUPTED if interrupted.is_set() else EXIT_OK


def build_agent(
    args: argparse.Namespace, settings: Settings, store: Any, space: Any, workflow: Any, policies: list[Any], options: Any, journal: Any
) -> Any:
    """The merged agent with everything it needs, from the command line."""
    from eva_p1.comfy_client import ComfyClient
    from eva_p1.content_policy import check
    from eva_p1.multi_bandit import MultiDimensionalBandit
    from eva_p1.prompt_generator import PromptGenerator
    from eva_p2.merged_agent import EnhancedVideoAgentV4Merged
    from qa.judges import LazyAnalyzer, deep_judge, explain_missing_taste, llm_judge

    if args.train_improved:
        explain_missing_taste(store.stats()["total_rated"])

    return EnhancedVideoAgentV4Merged(
        [ComfyClient(url, patience=PATIENCE) for url in settings.api],
        store,
        MultiDimensionalBandit(space=space, seed=args.seed),
        LazyAnalyzer(settings.state_dir),
        PromptGenerator(args.pack or "all", rng_seed=args.seed),
        workflow,
        space=space,
        video_dir=settings.video_dir,
        state_dir=settings.state_dir,
        policies=policies,
        options=options,
        check_text=check,
        rng=random.Random(args.seed),
        deep=deep_judge() if args.use_enhanced_analysis else None,
        llm=llm_judge(settings),
        journal=journal,
    )


def make_folder(path: Path, flag: str) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be made ({error.strerror or error}); name another folder with {flag}") from error


@contextmanager
def interruptible(agent: Any) -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM: the first stops the agent in order, the second ends the process at once (the journal is safe at any instant)."""
    interrupted = threading.Event()

    def handle(number: int, _frame: Any) -> None:
        if interrupted.is_set():
            os._exit(EXIT_INTERRUPTED)
        interrupted.set()
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        # In a thread: a handler runs between two bytecodes of the main thread, which may hold a lock that stopping needs.
        threading.Thread(target=agent.stop, args=(f"{name}; once more ends it at once",), name="eva-stop", daemon=True).start()

    numbers = [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(run_door(main))
