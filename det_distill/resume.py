"""Where a run starts: a checkpoint that is whole, found or named, or the beginning."""

import re
from pathlib import Path

from mmengine.config import Config

from det_distill.compat import checkpoints


def checked(checkpoint: str) -> str:
    """The path, once it is known to be there and whole (addresses of other backends pass).

    Raises:
        FileNotFoundError: No such file; names the nearest.
        ValueError: Truncated, or no checkpoint.
    """
    if "://" not in checkpoint:
        checkpoints.load(checkpoint)
    return checkpoint


def resumable(checkpoint: str) -> str:
    """The path, once it is known to hold a whole run and not weights alone.

    Raises:
        FileNotFoundError: No such file; names the nearest.
        ValueError: Truncated, no checkpoint, or of no run.
    """
    if "://" in checkpoint:
        return checkpoint
    found = checkpoints.load(checkpoint)
    lacking = [key for key in ("meta", "message_hub") if not isinstance(found, dict) or key not in found]
    if lacking:
        raise ValueError(
            f"checkpoint {checkpoint} has no entry '{lacking[0]}', so no run can be resumed from it; "
            "--cfg-options load_from=... starts one from its weights"
        )
    return checkpoint


def newest(work_dir: Path) -> tuple[str | None, str]:
    """The checkpoint to resume from where none is named.

    The one that MMEngine's note `last_checkpoint` names, if it is whole: the note is not written at one go, and may
    name what was removed or moved. Else the whole `epoch_*.pth` or `iter_*.pth` of the highest number.

    Returns:
        Its path, None where there is nothing to resume from; and what a user should know about the choice, or "".

    Raises:
        ValueError: There are checkpoints, but none of them is whole.
    """
    note = work_dir / "last_checkpoint"
    named = note.read_text(errors="replace").strip() if note.is_file() else ""
    numbered = [(re.fullmatch(r"(?:epoch|iter)_(\d+)\.pth", file.name), str(file)) for file in work_dir.glob("*.pth")]
    found = [file for _, file in sorted(((int(m[1]), file) for m, file in numbered if m), reverse=True)]
    faults = []
    for file in dict.fromkeys([named, *found] if Path(named).is_file() else found):
        try:
            resumable(file)
        except ValueError as error:
            faults.append(str(error))
            continue
        told = f"{note} names {named!r}" if named else f"{note} is {'empty' if note.is_file() else 'missing'}"
        why = "; ".join([told, *faults])
        return file, "" if file == named else f"{why}: resuming from {file}, the newest whole one"
    if faults:
        raise ValueError(f"nothing in {work_dir} can be resumed from: {'; '.join(faults)}")
    return None, f"nothing to resume from in {work_dir}: training starts from the beginning"


def find_start(cfg: Config, resume: str | None) -> str:
    """Set `resume` and `load_from` of a config to what there is, checked; what a user should know, or "".

    Args:
        cfg: The config; its own `load_from` is where a run starts that finds nothing to resume from.
        resume: A checkpoint, "auto" for the newest, or None where the config says.
    """
    told = ""
    if resume == "auto" or (resume is None and cfg.get("resume") and not cfg.get("load_from")):
        found, told = newest(Path(cfg.work_dir))
        cfg.resume, cfg.load_from = found is not None, found or cfg.get("load_from")
        if found:
            return told  # it was read
    elif resume is not None:
        cfg.resume, cfg.load_from = True, resume
    if cfg.get("load_from"):
        (resumable if cfg.get("resume") else checked)(cfg.load_from)
    return told
