"""Which failures are the machine's: a shortage or a fault that says nothing about the candidate that was trained."""

# What allocators and drivers say, in lower case; all of them raise RuntimeError or a subclass of it.
WORDS = (
    *(
        "out of memory",
        "outofmemoryerror",
        "not enough memory",
        "can't allocate memory",
        "cannot allocate memory",
        "failed to allocate",
    ),
    *(
        "cuda error",
        "cuda driver",
        "cuda call was not",
        "hip error",
        "acceleratorerror",
        "cublas_status",
        "cudnn_status",
    ),
    *("cudnn error", "cusolver error", "cufft error", "nccl error", "mps backend", "no cuda gpus are available"),
    *("can't start new thread", "resource temporarily unavailable", "too many open files", "no space left on device"),
)


def is_machine_failure(error: BaseException) -> bool:
    """Whether an error, or what it was raised from, is for want of memory or threads, or a device's or the system's."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (MemoryError, OSError)):
            return True
        message = f"{type(cause).__name__}: {cause}".lower()
        if isinstance(cause, RuntimeError) and any(words in message for words in WORDS):
            return True
        cause = cause.__cause__
    return False
