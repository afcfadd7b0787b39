package import WeirCore

extension ErrorCode {
    package static let unknownColumn = ErrorCode(
        "values.unknown_column",
        meaning:
            "A sink chose a column which the one table it takes does not have, or no longer has.",
        remedy:
            "Correct the name under \"columns\" of the sink, or remove it, and start the pipeline."
    )

    /// The codes of this module; every connector that renders values lists them among its own.
    package static let values: [ErrorCode] = [.unknownColumn]
}
