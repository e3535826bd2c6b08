"""Every failure that fedminet names, with a stable code.

The tree, one line a branch:

    FedminetError
    ├── ConfigurationError   FM-C...   a YAML file or an option        exit 2
    ├── DataError            FM-D...   a scan, a pair, a store         exit 3
    ├── ModelError           FM-M...   a checkpoint, weights, numbers  exit 4
    ├── FederationError      FM-F...   a reply, a round, a run         exit 5
    └── HostError            FM-S...   a port, a disk, a process       exit 6

A message says what failed, what was got, what was expected and what to do. What crosses from a site to the
server is the code alone: the message may hold a path of the site.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class FedminetError(Exception):
    """A failure with a stable code.

    Parameters
    ----------
    what
        What failed, in one clause.
    got
        What was found there.
    expected
        What would have been right.
    action
        What the reader can do about it, as an imperative sentence.
    """

    code: ClassVar[str] = "FM-S900"
    exit_status: ClassVar[int] = 1

    def __init__(
        self, what: str, *, got: object = None, expected: object = None, action: str | None = None
    ) -> None:
        self.what = what
        self.got = got
        self.expected = expected
        self.action = action
        parts = [f"{self.code}: {what}"]
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        message = "; ".join(parts).rstrip(".") + "."
        if action is not None:
            message += f" {action}" if action[-1] in ".?" else f" {action}."
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        """Whole again after a process boundary: an exception is otherwise rebuilt from its message alone."""
        return _rebuilt, (type(self), self.what, self.got, self.expected, self.action)


def _rebuilt(
    kind: type[FedminetError], what: str, got: object, expected: object, action: str | None
) -> FedminetError:
    return kind(what, got=got, expected=expected, action=action)


class ConfigurationError(FedminetError):
    """A YAML file or a command-line option is wrong."""

    code = "FM-C100"
    exit_status = 2


class UnknownKey(ConfigurationError):
    """A YAML file holds a key that no setting has."""

    code = "FM-C101"


class InvalidSetting(ConfigurationError):
    """A setting has a value of the wrong type or out of its range."""

    code = "FM-C102"


class FileMissing(ConfigurationError):
    """A file or folder named on the command line or in a YAML file is not there, or is the other of the two.

    Parameters
    ----------
    what
        What is missing.
    got
        Where it was looked for; of a path it is said where a file or a folder stands there.
    expected, action
        As of every failure.
    """

    code = "FM-C103"

    def __init__(
        self, what: str, *, got: object = None, expected: object = None, action: str | None = None
    ) -> None:
        there = _kind_of(got) if isinstance(got, Path) else None
        found = got if there is None else f"{got}, {there}"
        super().__init__(what, got=found, expected=expected, action=action)


def _kind_of(path: Path) -> str | None:
    """What stands at a path that was to lead elsewhere; None where nothing does, or nothing can be seen."""
    try:
        return "a folder" if path.is_dir() else "a file" if path.is_file() else None
    except OSError:
        return None


class FederationMismatch(ConfigurationError):
    """The federation a message names is not the one this site was admitted to."""

    code = "FM-C104"


class SettingsMismatch(ConfigurationError):
    """A folder holds training that was begun with other settings or on other scans."""

    code = "FM-C105"


class DataError(FedminetError):
    """A scan, a pair or a store cannot be used."""

    code = "FM-D200"
    exit_status = 3


class ScanUnreadable(DataError):
    """A file is truncated, of another format, or its header is wrong."""

    code = "FM-D201"


class ScanInvalid(DataError):
    """A scan was read and cannot be trained on: one slice, NaN, constant."""

    code = "FM-D202"


class ReferenceMissing(DataError):
    """A target has no reference, or a reference no target."""

    code = "FM-D203"


class RegistrationRefused(DataError):
    """Target and reference do not register."""

    code = "FM-D204"


class NoScansFound(DataError):
    """A folder holds no scan that the site's definition matches."""

    code = "FM-D205"


class TooFewPatients(DataError):
    """The patients do not suffice for a training, validation and test split."""

    code = "FM-D206"


class StoreDamaged(DataError):
    """A store's file does not match the digest in its cohort."""

    code = "FM-D207"


class StoreBusy(DataError):
    """Another process is ingesting into the same store."""

    code = "FM-D208"


class NoScansAccepted(DataError):
    """Scans were found and every one was refused; the message names each code."""

    code = "FM-D209"


class PatientNamesDoubtful(DataError):
    """What is taken for patients are dates or sessions, or one patient has two names."""

    code = "FM-D210"


class ScanReaderFailed(DataError):
    """A scan made its reader fail in a way that has no name of its own; only that scan's pair is left out."""

    code = "FM-D211"


class SlicesNotOneVolume(DataError):
    """Slices make no volume: one is missing or there twice, they are unevenly spaced, or their stack is askew."""

    code = "FM-D212"


class NotAnMrImage(DataError):
    """A DICOM object is no MR image as it was measured: a report, a capture, a derived map, a mosaic."""

    code = "FM-D213"


class DecoderMissing(DataError):
    """A DICOM object is stored in a form that nothing here decodes."""

    code = "FM-D214"


class SignalTooWeak(DataError):
    """A scan is mostly noise."""

    code = "FM-D215"


class ImageGhosted(DataError):
    """A scan shows its anatomy again beside it."""

    code = "FM-D216"


class ImageSaturated(DataError):
    """Much of a scan's anatomy is at its maximum."""

    code = "FM-D217"


class AnatomyCutOff(DataError):
    """A scan's anatomy reaches over more of the picture's edge than the site allows."""

    code = "FM-D218"


class MotionBetweenSlices(DataError):
    """Every other slice of a scan lies elsewhere."""

    code = "FM-D219"


class StudyIncomplete(DataError):
    """Of a study that the store has, some objects came again and others did not."""

    code = "FM-D220"


class StudyNotInPacs(DataError):
    """A PACS has no study by a number that was asked for; the message has its line, not the number."""

    code = "FM-D221"


class ProtocolDrifted(DataError):
    """A series was acquired otherwise than the site's definition, or most of its series, say."""

    code = "FM-D222"


class ModelError(FedminetError):
    """A checkpoint, a set of weights or a number in them cannot be used."""

    code = "FM-M300"
    exit_status = 4


class CheckpointInvalid(ModelError):
    """A checkpoint does not match its own manifest."""

    code = "FM-M301"


class WeightsRefused(ModelError):
    """Weights have a wrong key, shape, dtype, or a value that is not finite."""

    code = "FM-M302"


class TrainingDiverged(ModelError):
    """The loss or a gradient is not finite, or the loss beyond that of any image."""

    code = "FM-M303"


class MetricInvalid(ModelError):
    """A figure would mean nothing: an empty target, two shapes, a value that is not finite."""

    code = "FM-M304"


class FederationError(FedminetError):
    """A reply, a round or a run broke its contract."""

    code = "FM-F400"
    exit_status = 5


class ReplyRefused(FederationError):
    """A site's reply was refused; the site is named in the message."""

    code = "FM-F401"


class QuorumNotMet(FederationError):
    """Fewer sites than declared gave a valid reply in a round."""

    code = "FM-F402"


class RunFailed(FederationError):
    """A run ended without a global model."""

    code = "FM-F403"


class AdmissionRefused(FederationError):
    """A site's key or kit does not belong to this federation."""

    code = "FM-F404"


class ReplyMissing(FederationError):
    """A site gave no reply before the round's deadline."""

    code = "FM-F405"


class IllegalTransition(FederationError):
    """A run was to go from one state to another that does not follow it; a run that has ended never changes."""

    code = "FM-F406"


class DuplicateReply(FederationError):
    """A site answered the same request twice."""

    code = "FM-F407"


class StaleMessage(FederationError):
    """A request or a reply belongs to another round or another run."""

    code = "FM-F408"


class CohortChanged(FederationError):
    """A site trains on another cohort than the one it declared."""

    code = "FM-F409"


class UpdateSuspect(FederationError):
    """An update is far larger than the others of the round and of the run."""

    code = "FM-F410"


class RunWithoutProgress(FederationError):
    """A run was taken up again and again and came no further."""

    code = "FM-F411"


class UpdateOpposed(FederationError):
    """An update points away from those of the other sites, which agree, or made the global model worse."""

    code = "FM-F412"


class PolicyRefused(FederationError):
    """What the coordinator asks for lies outside what the site's own site.yaml allows."""

    code = "FM-F420"


class HostError(FedminetError):
    """A port, a disk, a process or a connection failed."""

    code = "FM-S500"
    exit_status = 6


class PortInUse(HostError):
    """Another process listens on a port that is needed."""

    code = "FM-S501"


class ServerUnreachable(HostError):
    """The coordinator's server does not answer."""

    code = "FM-S502"


class ProcessDied(HostError):
    """A child process ended that should have gone on."""

    code = "FM-S503"


class FileNotWritten(HostError):
    """A file could not be written, or not read: the file system refused. The kinds below say why."""

    code = "FM-S509"


class DiskFull(FileNotWritten):
    """There is no room left for a file, on the disk or within a quota."""

    code = "FM-S504"


class ServerLost(HostError):
    """The SuperLink went away while a run was in work; the run is taken up again when it is back."""

    code = "FM-S506"


class RunBusy(HostError):
    """Another process works on the same run."""

    code = "FM-S507"


class BackupDamaged(HostError):
    """A back-up was cut off or altered, or its parts do not belong together."""

    code = "FM-S508"


class DeadlinePassed(HostError):
    """What was waited for did not happen in time."""

    code = "FM-S505"


class FilePermission(FileNotWritten):
    """This user may not read or write a file or folder."""

    code = "FM-S510"


class FileSystemReadOnly(FileNotWritten):
    """A file system is mounted for reading only."""

    code = "FM-S511"


class PathUnusable(FileNotWritten):
    """A path cannot be a file's: too long, through a file, a folder in its place, links in a circle."""

    code = "FM-S512"


class PathMissing(FileNotWritten):
    """A file or folder is not there, or no longer: removed, renamed, or on a share that is not mounted."""

    code = "FM-S518"


class TooManyOpenFiles(FileNotWritten):
    """The process or the machine has as many files open as it may."""

    code = "FM-S513"


class FileSystemFailed(FileNotWritten):
    """A disk or a share gave an error: a read or write fault, a stale handle, a share that is away."""

    code = "FM-S514"


class FileLockFailed(FileNotWritten):
    """A file system answered a request for a lock with an error."""

    code = "FM-S515"


class MachineShared(HostError):
    """What keeps a machine's other users from the coordinator's secrets or interfaces is not there."""

    code = "FM-S516"


class RunDamaged(HostError):
    """A file of a run's folder is missing or is not what was written; the run is not gone on with."""

    code = "FM-S517"


class ClockWrong(HostError):
    """The machine's clock is too far from the server's for the server to accept what it signs."""

    code = "FM-S520"


class DeviceMissing(HostError):
    """The site is set to train on a CUDA device, and there is none that works."""

    code = "FM-S521"


class SiteAlreadyRunning(HostError):
    """Another process is this site's client already."""

    code = "FM-S522"


class LedgerDamaged(HostError):
    """A ledger does not hold together: a record was changed, removed or moved, or its end is missing."""

    code = "FM-S523"


class DicomPeerUnreachable(HostError):
    """A DICOM peer does not answer, or refuses the association or what is asked of it."""

    code = "FM-S524"


class DicomTransferIncomplete(HostError):
    """Not every object that was to be sent or fetched got there."""

    code = "FM-S525"


INTERNAL_CODE = "FM-S900"
"""The code sent for a failure that has no class above: a defect of fedminet."""


def code_of(failure: BaseException) -> str:
    """The code that may leave a site for any exception, known or not.

    Parameters
    ----------
    failure
        Any exception.

    Returns
    -------
    str
        Its own code, or `INTERNAL_CODE` where it has none.
    """
    return failure.code if isinstance(failure, FedminetError) else INTERNAL_CODE
