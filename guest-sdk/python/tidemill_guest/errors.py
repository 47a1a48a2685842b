"""How an operator says that something is wrong: each kind is an exception."""


class Reject(Exception):
    """The row cannot be processed: it is counted, and set aside where the job says so. Its text is the reason."""


class Refusal(Exception):
    """The step cannot work. Raised while it is opened; its text says what would be right."""

    kind = "other"


class ConfigRefusal(Refusal):
    """The configuration is wrong: what, and what would be right."""

    kind = "config"


class SchemaRefusal(Refusal):
    """The input's columns do not fit: which one, and what was expected."""

    kind = "schema"


class Failure(Exception):
    """The whole call has failed, and is not worth trying again. Nothing of it is used."""

    kind = "fatal"


class Retry(Failure):
    """The whole call has failed, and is worth trying again later."""

    kind = "retry"
