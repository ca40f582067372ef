"""kws export: a checkpoint as a TorchScript, ONNX or PT2 file."""

from pathlib import Path

from kws.commands import builders
from kws.commands.model_card import is_card_of, write_card
from kws.commands.quantise import quantise
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.files import refuse_overwriting
from kws.config.app import verb
from kws.config.deploy import ExportConfig
from kws.detector import checkpoint, onnx
from kws.detector.files import SUFFIXES, Format, checked, write
from kws.detector.parity import gate_audio
from kws.evaluation.calibration import above

NOT_CALIBRATED = "scores are probabilities; no threshold was calibrated: a class triggers from one half on"


def run(s: ExportConfig) -> None:
    """Export `checkpoint` to the file `out`, or to one of each format."""
    files = targets(Path(s.out), s.format)
    if s.quantize is not None and (others := [kind for kind in files.values() if kind is not Format.onnx]):
        raise KwsError(f"quantize={s.quantize}: must be left out for {' and '.join(others)}; format=onnx has it")
    card = next(iter(files)).with_suffix(".card.md")
    for out in files:
        refuse_overwriting({"out": str(out)}, [s.checkpoint])
    model = checkpoint.read_model(Path(s.checkpoint))
    for out in (*files, card):
        if out.exists() and not s.force and not (out == card and is_card_of(card, model)):
            raise KwsError(f"out={out}: the file exists; force=true overwrites it")
    classes = model.spec.others is not None
    if s.thresholds is None and "calibration" not in model.facts and not classes:
        raise KwsError(f"thresholds=... must be given: {s.checkpoint} was never calibrated")
    smoothing = {key: value for key in ("smooth_s", "smooth_k") if (value := getattr(s, key)) is not None}
    if smoothing and s.thresholds is None and not classes:
        raise KwsError(f"thresholds=... must be given: {s.checkpoint} was not calibrated with this smoothing")
    detector = builders.resmoothed(model, s.smooth_s, s.smooth_k)
    if s.thresholds is not None:
        detector.thresholds = thresholds(s.thresholds, len(model.spec.labels))
    console, clips = Console(), Path(s.checkpoint).parent / "buffer" / "clips"
    facts, smaller = model.facts | {"checkpoint": model.hash} | smoothing, None
    for out, kind in files.items():
        content = checked(detector, out.name, facts, kind, clips)
        if s.quantize is not None:
            smaller = quantise(content, detector, model, s, gate_audio(detector.sample_rate, clips), console)
            content = onnx.with_metadata(smaller.content, facts | {"quantize": smaller.as_json()})
        write(out, content)
        pairs = zip(detector.labels, detector.thresholds, strict=True)
        console.say(f"{out}: " + ", ".join(f"{k} at {t:.4f}" for k, t in pairs))
    write_card(card, files, detector, model, Path(s.checkpoint).parent / "results.json", smaller)
    console.say(f"{card}: model card")
    useless = model.facts.get("useless")
    for keyword, why in useless.items() if isinstance(useless, dict) and s.thresholds is None else ():
        console.warn(f"{keyword}: {why}")
    if classes and s.thresholds is None:
        console.say(NOT_CALIBRATED)


def targets(out: Path, given: object) -> dict[Path, Format]:
    """The files to write and their formats.

    Args:
        out: the setting `out`.
        given: the setting `format`: one, a list, or None for that of the suffix.

    Raises:
        KwsError: no such format, or a suffix that is that of another.
    """
    if not out.name or out.is_dir():
        raise KwsError(f"out={out}: must be a file")
    by_suffix = {suffix: kind for kind, suffixes in SUFFIXES.items() for suffix in suffixes}
    if given is None:
        if out.suffix and out.suffix.lower() not in by_suffix:
            raise KwsError(f"out={out}: must end in {', '.join(suffixes[0] for suffixes in SUFFIXES.values())}")
        return {out: by_suffix.get(out.suffix.lower(), Format.torchscript)}
    names = given if isinstance(given, list) else [given]
    if not names or any(name not in list(Format) for name in names):
        raise KwsError(f"format={given}: must be one or several of {', '.join(Format)}")
    kinds = [Format(str(name)) for name in names]
    if len(kinds) > 1:
        name = out.stem if out.suffix.lower() in by_suffix else out.name
        return {out.with_name(name + SUFFIXES[kind][0]): kind for kind in kinds}
    own = SUFFIXES[kinds[0]]
    if out.suffix and out.suffix.lower() not in own:
        raise KwsError(f"out={out}: must end in {own[0]} for format={kinds[0]}")
    return {out if out.suffix else out.with_suffix(own[0]): kinds[0]}


def thresholds(value: object, count: int) -> list[float]:
    """Check the thresholds setting: one number for each keyword, in [0, 1].

    The numbers are rounded up to float32, so that comparisons in float32 and float64 agree, and a threshold just above
    the score of a false alarm stays above it.
    """
    numbers = value if isinstance(value, list) else [value]
    good = [above(n) for n in numbers if isinstance(n, int | float) and type(n) is not bool and 0 <= n <= 1]
    if len(good) != count or len(numbers) != count:
        raise KwsError(f"thresholds={value}: must be {count} number(s) between 0 and 1, one for each keyword")
    return good


main = verb("export", run)
