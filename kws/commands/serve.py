"""kws serve: wake words for Home Assistant, over the Wyoming protocol."""

import asyncio

from kws.commands import builders
from kws.common.console import Console
from kws.config.app import verb
from kws.config.compose import paths
from kws.config.deploy import ServeConfig
from kws.detector.files import open_detector
from kws.evaluation.recordings import display_names


def run(s: ServeConfig) -> None:
    """Serve `detectors` at `uri` until the program is stopped."""
    from kws.runtime.wyoming_server import models, serve

    console = Console()
    builders.threads(s.threads)
    files = paths(s.detectors, "detectors")
    detectors = dict(zip(display_names(files), map(open_detector, files), strict=True))
    console.say(f"{', '.join(models(detectors))} at {s.uri}")
    asyncio.run(serve(s.uri, detectors, console.say))
    console.say("stopped")


main = verb("serve", run)
