package import WeirCore
import WeirValues

/// The sinks that need no server.
package let builtinConnectors = [
    ConnectorDescriptor(
        type: "stdout", summary: "One JSON line per event on standard output.",
        sink: SinkRole(StdoutSink.self),
        errorCodes: [.outputFailed, .outputBusy, .outputForeign, .outputLost, .outputShared]
            + ErrorCode.values),
    ConnectorDescriptor(
        type: "file", summary: "One JSON line per event in a file, each once over any crash.",
        sink: SinkRole(FileSink.self)),
    ConnectorDescriptor(
        type: "blackhole", summary: "Counts events and keeps nothing.",
        sink: SinkRole(BlackholeSink.self)),
]

extension ErrorCode {
    static let outputFailed = ErrorCode(
        "file.write_failed",
        meaning: "The output file, or standard output, could not be opened or written.",
        remedy: "Check free space, folder and rights. Weir retries by itself; nothing is lost.")
    static let outputBusy = ErrorCode(
        "file.busy",
        meaning: "Another sink or another process writes to the output file, perhaps under another "
            + "path: lines of the two would overwrite each other.",
        remedy: "Give each sink a \"path\" of its own, or end the other process. Weir goes on by "
            + "itself when that has ended.")
    static let outputForeign = ErrorCode(
        "file.foreign",
        meaning:
            "The output file was there before Weir wrote to it, and holds binary data or JSON over "
            + "several lines: a database, a configuration or the like.",
        remedy: "Choose another \"path\", or move the file away.")
    static let outputLost = ErrorCode(
        "file.lost",
        meaning:
            "The output file no longer holds what Weir wrote to it: it was emptied, cut, "
            + "written anew, removed or replaced.",
        remedy:
            "Put it back; or move what is there away, weir stop, weir start: a new file is begun, "
            + "and the gap is shown until weir gap resolve. To rotate a file, move it while Weir runs."
    )
    static let outputShared = ErrorCode(
        "file.shared",
        meaning: "Another program added to the output file while Weir wrote to it. What it added "
            + "was cut off; no line of Weir is missing.",
        remedy: "Let the other program write to a file of its own. fuser -v FILE names it while it "
            + "has the file open.")
}
