package import WeirCore

/// Every code a configuration file can be refused or remarked on with.
package enum ConfigErrorCode {
    package static let unreadable = ErrorCode(
        "config.unreadable",
        meaning: "The configuration file does not exist or could not be read.",
        remedy: "Check the path after -c and the rights on the file. Without -c, Weir reads "
            + "./weir.json, then /etc/weir/weir.json.")
    package static let tooLarge = ErrorCode(
        "config.too_large",
        meaning: "The file is larger than 4 MiB, which no configuration is.",
        remedy: "Check that the path after -c leads to the right file.")
    package static let encoding = ErrorCode(
        "config.encoding",
        meaning: "The file is not plain UTF-8: it has invalid bytes or a byte order mark.",
        remedy: "Save it as UTF-8 without a byte order mark.")
    package static let syntax = ErrorCode(
        "config.syntax",
        meaning: "The file is not JSON. Comments with // are allowed, trailing commas are not.",
        remedy: "Correct the place the message points at. Errors after it show once it is JSON.")
    package static let unknownField = ErrorCode(
        "config.unknown_field",
        meaning: "An object has a key that means nothing there. Weir ignores no key, so that a "
            + "misspelt one is never silently without effect.",
        remedy: "Correct or remove the key; weir schema --path lists the keys of an object.")
    package static let duplicateKey = ErrorCode(
        "config.duplicate_key",
        meaning: "An object has the same key twice.",
        remedy: "Remove one of the two.")
    package static let missingField = ErrorCode(
        "config.missing_field",
        meaning: "An object lacks a key it must have.",
        remedy: "Add the key; weir schema --path lists the keys of an object.")
    package static let wrongType = ErrorCode(
        "config.wrong_type",
        meaning: "A value is of another kind than its key takes, such as a number for a list.",
        remedy: "Write the value as the message says.")
    package static let outOfRange = ErrorCode(
        "config.out_of_range",
        meaning: "A number, duration or size lies outside of what its key takes.",
        remedy: "Choose a value between the two the message names.")
    package static let badDuration = ErrorCode(
        "config.bad_duration",
        meaning: "A text that should be a duration is none: a whole number and ms, s, m or h.",
        remedy: "Write it like \"200ms\", \"30s\", \"5m\" or \"1h\".")
    package static let badSize = ErrorCode(
        "config.bad_size",
        meaning: "A text that should be a size is none: a whole number and KiB, MiB or GiB, or a "
            + "number of bytes.",
        remedy: "Write it like \"64KiB\", \"8MiB\", \"1GiB\" or \"65536\".")
    package static let badName = ErrorCode(
        "config.bad_name",
        meaning: "The name of a connection, pipeline or sink is not 1 to 40 lower-case letters, "
            + "digits, - and _, or it is reserved.",
        remedy: "Choose another name.")
    package static let invalidValue = ErrorCode(
        "config.invalid_value",
        meaning: "A value has the right kind, but is not one its key takes, or does not fit the "
            + "keys beside it.",
        remedy: "Correct it as the message says.")
    package static let empty = ErrorCode(
        "config.empty",
        meaning: "A list or object that must hold something is empty.",
        remedy: "Put something in, or leave the key out where it is optional.")
    package static let unknownConnection = ErrorCode(
        "config.unknown_connection",
        meaning: "A source or sink names a connection that the file does not have.",
        remedy: "Correct the name, or add the connection under \"connections\".")
    package static let unknownType = ErrorCode(
        "config.unknown_type",
        meaning: "No connector has this type.",
        remedy: "Correct the type. weir schema --path \"connections.*\" lists those of "
            + "connections, with \"pipelines.*.sinks.*\" those of sinks.")
    package static let roleNotOffered = ErrorCode(
        "config.role_not_offered",
        meaning: "A connector is used for what it cannot be: as a source, a sink or a connection.",
        remedy: "Choose another type or connection; the message names those that fit.")
    package static let conflict = ErrorCode(
        "config.conflict",
        meaning: "Two pipelines or sinks need the same thing, which only one may use: a slot, a "
            + "file.",
        remedy: "Give one of the two another name or path.")
    package static let loop = ErrorCode(
        "config.loop",
        meaning: "Pipelines write each other's tables: what one of them writes would be read by "
            + "the other, sent back, and undo what the application wrote meanwhile.",
        remedy: "Give each sink an \"origin\", and name it in the \"origin\" of the source that "
            + "reads its tables.")
    package static let secretUnavailable = ErrorCode(
        "config.secret_unavailable",
        meaning: "A secret is not where the file says: the environment variable is not set, or the "
            + "file is missing or empty.",
        remedy: "Set the variable, or write the file, for the user that runs weir.")

    package static let unusedConnection = ErrorCode(
        "config.unused_connection",
        meaning: "No pipeline uses this connection.",
        remedy: "Remove it, or use it. It does no harm.")
    package static let literalPassword = ErrorCode(
        "config.literal_password",
        meaning: "A password stands in the file itself, where backups and version control see it.",
        remedy: "Write { \"env\": \"NAME\" }, { \"file\": \"/path\" } or, under systemd, "
            + "{ \"credential\": \"id\" } in its place.")
    package static let readableByOthers = ErrorCode(
        "config.readable_by_others",
        meaning: "A file that holds a password, the configuration itself or one it names for a "
            + "secret, may be read by others.",
        remedy:
            "chmod 600 the file; of a configuration, move the password out of it. In a volume of "
            + "Kubernetes, set defaultMode: 0440 and the pod's fsGroup.")
    package static let advice = ErrorCode(
        "config.advice",
        meaning: "The configuration works, but a connector has something to say about it.",
        remedy: "Follow the message, or live with it knowingly.")

    /// All of them, for `weir explain`.
    package static let all: [ErrorCode] = [
        unreadable, tooLarge, encoding, syntax, unknownField, duplicateKey, missingField, wrongType,
        outOfRange, badDuration, badSize, badName, invalidValue, empty, unknownConnection,
        unknownType, roleNotOffered, conflict, loop, secretUnavailable, unusedConnection,
        literalPassword,
        readableByOthers, advice,
    ]
}
