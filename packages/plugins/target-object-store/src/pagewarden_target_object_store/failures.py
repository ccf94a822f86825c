"""What a store answered, as one of the project's errors.

obstore's own text holds the whole answer and the request's URL, in which a key's name, a signature or a token may
stand. So nothing of it is repeated but the status, the code and the sentence that stores give for people.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from pagewarden.errors import DeletionRefused, OutOfSpace, PagewardenError, SharedWritingRefused, TargetFailed

if TYPE_CHECKING:
    from pagewarden_target_object_store.address import Address

_STATUS = re.compile(r"status code: (\d{3})(?: ([A-Za-z -]{2,40}))?")
_CODE = re.compile(r"<Code>([A-Za-z0-9._-]{2,60})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{2,200})</Message>")
_KIND = re.compile(r"kind: (Connect|Request|Timeout|Interrupted|Decode|Unknown)")
_RETRIES = re.compile(r"after (\d{1,3}) retries")
_SECRET = re.compile(r"[A-Za-z0-9/+=_%-]{20,}")  # as long as the shortest key or signature
_METADATA = ("169.254.169.254", "169.254.170.2", "metadata.google.internal", "/latest/api/token", "/latest/meta-data")

_FULL = ("507", "InsufficientStorage", "XMinioStorageFull", "QuotaExceeded", "QuotaExceededException")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
_NO_CONDITION = ("NotImplemented", "UnsupportedHeader")
_TRANSPORT = {
    "Connect": "no connection could be made",
    "Request": "the request could not be sent",
    "Timeout": "there was no answer in time",
    "Interrupted": "the connection was cut",
    "Decode": "the answer was cut off or is no answer of such a store",
    "Unknown": "the connection failed",
}


def status(error: BaseException) -> int | None:
    """Return the HTTP status that the store answered with, None where it did not answer."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def code(error: BaseException) -> str:
    """Return the store's own name for what is wrong, "" where it gave none."""
    found = _CODE.search(str(error))
    return found[1] if found else ""


def was_cut_off(error: BaseException) -> bool:
    """Return whether the connection failed, and obstore did not try again: it cannot know whether that is harmless."""
    text = str(error)
    return status(error) is None and _KIND.search(text) is not None and _RETRIES.search(text) is None


def reason(error: BaseException) -> str:
    """Return why a request failed, in words that hold no secret."""
    text = str(error)
    tried = f", after {found[1]} more attempts" if (found := _RETRIES.search(text)) else ""
    if found := _STATUS.search(text):
        said = " ".join(filter(None, (found[1], code(error) or (found[2] or "").strip())))
        message = _MESSAGE.search(text)
        more = f": {_SECRET.sub('…', ' '.join(message[1].split())).rstrip('.')}" if message else ""
        return f"it answered {said}{more}{tried}"
    if found := _KIND.search(text):
        why = "its host name is not known" if "dns error" in text else _TRANSPORT[found[1]]
        return f"{why}{tried}"
    return _SECRET.sub("…", text.partition("\n")[0])[:200] or type(error).__name__


def raise_failure(error: BaseException, what: str, address: Address, *, deleting: bool = False) -> NoReturn:
    """Raise what `error`, an exception of obstore's, means; `what` names what could not be done.

    The cause is left out: its text may hold what `reason` leaves out.
    """
    raise failure(error, what, address, deleting=deleting) from None


def failure(error: BaseException, what: str, address: Address, *, deleting: bool = False) -> PagewardenError:
    """Return the error that `error` means."""
    answered, named, why = status(error), code(error), reason(error)
    message = f"{what}: {why}"
    if named in _FULL or str(answered) in _FULL:
        return OutOfSpace(f"{message}: there is no room", hint="free space there, or raise its quota, then try again")
    if any(asked in str(error) for asked in _METADATA):
        return no_credentials(address)
    if deleting and answered in (403, 409):  # 409: a policy of the store protects the object
        return DeletionRefused(message)
    if answered in (401, 403):
        return TargetFailed(message, hint=f"check the credentials, and what they permit on the {address.place}")
    if has_no_bucket(error):
        return TargetFailed(f"{message}: there is no {address.place}", hint=f"make the {address.place} first")
    if "BareRedirect" in str(error) or answered == 301:
        return TargetFailed(f"{message}: the {address.place} is in another region", hint="add ?region=NAME to the URL")
    if answered is None:
        where = address.endpoint or "the store"
        return TargetFailed(message, hint=f"look whether {where} can be reached from here, then try again")
    return TargetFailed(message, hint=f"try again; if it stays so, ask who runs the {address.place}")


def has_no_bucket(error: BaseException) -> bool:
    """Return whether the bucket or container is missing, not an object in it."""
    return code(error) in _NO_BUCKET


def ignores_conditions(error: BaseException) -> bool:
    """Return whether the store says that it knows no conditional put."""
    return status(error) == 501 or code(error) in _NO_CONDITION or type(error).__name__ == "NotSupportedError"


def no_conditions(address: Address) -> SharedWritingRefused:
    """Return the error for a store without conditional puts."""
    return SharedWritingRefused(
        f"the {address.place} stores an object although its key is taken (it ignores conditional puts), so two writers "
        "would overwrite each other's backups",
        hint="use another store; or add ?only_writer=yes to the URL if no other process ever writes there",
    )


def no_credentials(address: Address) -> TargetFailed:
    """Return the error for a store that nobody gave credentials for."""
    hint = {
        "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile: ?profile=NAME",
        "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login",
        "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    }[address.scheme]
    return TargetFailed(f"there are no credentials for the {address.place}", hint=hint)
