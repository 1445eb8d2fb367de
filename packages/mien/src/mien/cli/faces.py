"""`mien faces`: local images and folders of them, without a server."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mien.cli.face_outputs import Drawn, FaceOutput, Lines, Sheet, Tables, opened_lines, printable
from mien.cli.face_records import CsvRecords, JsonRecords, Records
from mien.cli.face_resume import Done, resume
from mien.cli.output import err, out
from mien.cli.pulling import pull_needed
from mien.errors import RequestError
from mien.library.faces import Faces
from mien.library.options import Options
from mien.library.search import Progress as Count
from mien.library.walk import ImageFile, Skipped, walk
from mien.settings import Models, Settings
from mien.zoo.selection import age_gender_models, landmark_models, mask_models, pose_models

FAILED, INTERRUPTED = 1, 130
FORMATS = {".csv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be written, and where."""

    format: str = ""
    """`json` or `csv`; empty: tables, or what the name of the output says."""
    output: Path | None = None
    """A file instead of stdout."""
    resume: bool = False
    sheet: Path | None = None
    draw: Path | None = None


def find_faces(settings: Settings, paths: Sequence[Path], options: Options, wanted: Wanted) -> int:
    """Find the faces of all images at and below `paths`; the exit status: 0, 1 if images failed, 130 if interrupted.

    Raises RequestError for what cannot be done, before any work.
    """
    wanted = _checked(wanted, paths)
    pull_needed(settings, _further_models(settings.models, options))
    options = {**options, "embedding": wanted.format == "json", "crops": wanted.sheet is not None, "landmarks": True}
    sheet = None if wanted.sheet is None else Sheet(wanted.sheet, resumed=wanted.resume)
    with ExitStack() as stack:
        faces = stack.enter_context(Faces(settings))
        records = _records(wanted, faces.made_by(**options))
        done = _done(wanted, records, faces.made_by(**options))
        outputs: list[FaceOutput] = [] if sheet is None else [sheet]
        if wanted.draw is not None:
            outputs.append(Drawn(settings, wanted.draw))
        outputs.append(stack.enter_context(_main_output(wanted, records)))
        shown = stack.enter_context(_progress(paths, hidden=wanted.output is None and out.is_terminal))
        return _Run(sheet, done, shown).run(faces, paths, options, outputs)


def _further_models(models: Models, options: Options) -> Iterator[str]:
    """Beside the detector and the recogniser."""
    if options.get("attributes"):
        yield from (*age_gender_models(models), *mask_models(models))
    if options.get("pose"):
        yield from pose_models(models)
    if options.get("landmarks_68"):
        yield from landmark_models(models)


def _checked(wanted: Wanted, paths: Sequence[Path]) -> Wanted:
    """With the format that the name of the output tells. Raises RequestError."""
    if wanted.output is not None and not wanted.format:
        found = FORMATS.get(wanted.output.suffix.lower())
        if found is None:
            raise RequestError(
                f"--output {wanted.output}: say --json or --csv, or end its name in {', '.join(FORMATS)}"
            )
        wanted = replace(wanted, format=found)
    if wanted.resume and wanted.output is None:
        raise RequestError("--resume needs --output FILE, the file to go on with")
    if not any(os.path.lexists(path) for path in paths):
        raise RequestError(f"{paths[0]}: no such file or directory")
    if wanted.draw is not None and (count := _images(paths)) != 1:
        raise RequestError(f"--draw takes exactly one image; {count} were given")
    return wanted


def _images(paths: Sequence[Path]) -> int:
    return sum(not isinstance(entry, Skipped) for entry in walk(paths))


def _records(wanted: Wanted, made_by: str) -> Records | None:
    if wanted.format == "json":
        return JsonRecords(None if wanted.output is None else made_by)
    return CsvRecords(made_by) if wanted.format == "csv" else None


def _done(wanted: Wanted, records: Records | None, made_by: str) -> Done:
    """What need not be done again. Raises RequestError for a file that cannot be resumed."""
    if wanted.resume and wanted.output is not None and records is not None and wanted.output.exists():
        return resume(wanted.output, records, made_by)
    return Done()


@contextmanager
def _main_output(wanted: Wanted, records: Records | None) -> Iterator[Lines | Tables]:
    if records is None:
        yield Tables()
        return
    with opened_lines(records, wanted.output, resumed=wanted.resume) as lines:
        yield lines


class _Run:
    """One run over all paths."""

    def __init__(self, sheet: Sheet | None, done: Done, shown: Callable[[Count], None]) -> None:
        self._sheet = sheet
        self._done = done
        self._shown = shown
        self._count = Count(Path())

    def run(self, faces: Faces, paths: Sequence[Path], options: Options, outputs: Sequence[FaceOutput]) -> int:
        """The exit status. Raises OSError if an output cannot be written."""
        found = faces.folder(*paths, wanted=self._is_wanted, skipped=_say, progress=self._progress, **options)
        try:
            with closing(found):
                for image in found:
                    for output in outputs:
                        output.add(image)
            status = FAILED if self._count.failed else 0
        except KeyboardInterrupt:
            status = INTERRUPTED
        for output in outputs:
            output.close()
        self._sum_up(paths, interrupted=status == INTERRUPTED)
        return status

    def _progress(self, count: Count) -> None:
        self._count = count
        self._shown(count)

    def _is_wanted(self, file: ImageFile) -> bool:
        if self._sheet is not None and self._sheet.is_page(file.path):
            _say(Skipped(file.path, "a page of the contact sheet"))
            return False
        return file not in self._done

    def _sum_up(self, paths: Sequence[Path], *, interrupted: bool) -> None:
        count = self._count
        if not count.images and not count.left_out and not interrupted:
            more = ", …" if len(paths) > 3 else ""
            words = f"no images in {', '.join(printable(str(path)) for path in paths[:3])}{more}"
        elif count.images == 1 and not count.skipped and not count.left_out and not interrupted:
            return  # its table says it all
        else:
            numbers = [(count.failed, "failed"), (count.left_out, "done before"), (count.skipped, "entries skipped")]
            words = f"{count.faces} faces in {count.images} images"
            words += "".join(f", {number} {what}" for number, what in numbers if number)
            words = f"interrupted: {words}" if interrupted else words
        err.print(words, markup=False, soft_wrap=True)


def _say(entry: Skipped) -> None:
    err.print(f"skipped {printable(str(entry.path))}: {entry.reason}", markup=False, soft_wrap=True)


@contextmanager
def _progress(paths: Sequence[Path], *, hidden: bool) -> Iterator[Callable[[Count], None]]:
    """Shows how far it is, on a terminal. `hidden`: the terminal belongs to the results, which show it themselves."""
    if hidden or not err.is_terminal:
        yield lambda _: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=err, transient=True) as bars:
        task = bars.add_task("", total=None)

        def count_images() -> None:
            bars.update(task, total=_images(paths))

        # Beside the work, since a large folder on a slow disk takes minutes to count.
        threading.Thread(target=count_images, name="count images", daemon=True).start()

        def show(count: Count) -> None:
            failed = f", {count.failed} failed" if count.failed else ""
            words = f"{count.faces} faces{failed}  {printable(count.path.name)[-40:]}"
            bars.update(task, completed=count.images + count.left_out, description=words)

        yield show
