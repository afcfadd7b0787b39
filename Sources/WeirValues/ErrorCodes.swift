package import WeirCore

extension ErrorCode {
    package static let unknownColumn = ErrorCode(
        "values.unknown_column",
        meaning:
            "A sink chose a column which the one table it takes does not have, or no longer has.",
        remedy:
            "Correct the name under \"columns\" of the sink, or remove it, and start the pipeline."
    )

    package static let columnRenamed = ErrorCode(
        "values.column_renamed",
        meaning: "A sink names a column by a name that it does not have any more: it was renamed "
            + "at the source. Weir knows that it is the same column, and goes on.",
        remedy: "Write the new name in the sink's configuration, or rename the column back.")
    package static let columnGone = ErrorCode(
        "values.column_gone",
        meaning: "A sink names a column that was dropped at the source. Rows from before that are "
            + "still to come have it.",
        remedy: "Take it out of the sink's configuration once those are delivered: the sink stops "
            + "there by itself.")

    /// The codes of this module; every connector that renders values lists them among its own.
    package static let values: [ErrorCode] = [.unknownColumn, .columnRenamed, .columnGone]
}
