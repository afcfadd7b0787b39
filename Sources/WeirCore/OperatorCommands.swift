/// Makes the commands of this program in a hint work as they are pasted into a shell: with the
/// options that the daemon runs with, and with the daemon stopped where a command needs that.
///
/// Hints are made where only the fault is known, and gaps are kept for longer than a daemon runs;
/// so they are completed where they are shown.
public struct OperatorCommands: Sendable {
    /// The options as words of a shell; empty for what a command finds by itself.
    private let configuration: String
    private let stateDirectory: String

    /// - Parameters:
    ///   - configuration: the file of the daemon where a plain command would read another one.
    ///   - stateDirectory: as of the file.
    public init(configuration: String? = nil, stateDirectory: String? = nil) {
        self.configuration = configuration.map { " -c \($0.shellWord)" } ?? ""
        self.stateDirectory = stateDirectory.map { " --state-dir \($0.shellWord)" } ?? ""
    }

    /// - Parameter besideDaemon: a daemon runs, so what must not be done beside it stops it first
    ///   and starts it again.
    public func completed(_ hint: String, besideDaemon: Bool) -> String {
        // One that says by itself when to stop and start has its own order.
        let stops = besideDaemon && !hint.contains("weir stop")
        var result = ""
        var rest = hint[...]
        while let start = rest.firstRange(of: "weir ") {
            result += rest[..<start.lowerBound]
            rest = rest[start.lowerBound...]
            guard result.last.map({ $0.isWhitespace || "(:;,".contains($0) }) ?? true,
                let command = Command(at: rest)
            else {
                result += rest[..<start.upperBound]
                rest = rest[start.upperBound...]
                continue
            }
            rest = rest.dropFirst(command.text.count)
            let whole = isComplete(rest) ? command.text : with(command)
            result +=
                command.needsStop && stops
                ? "weir stop\(stateDirectory); \(whole); weir start\(configuration)\(stateDirectory)"
                : whole
            // Pasted with the line, a sentence's end would be part of the last word.
            if rest == "." || rest.hasPrefix(".\n") { rest = rest.dropFirst() }
        }
        return result + rest
    }

    private func with(_ command: Command) -> String {
        command.text + (command.readsConfiguration ? configuration : "") + stateDirectory
    }

    private func isComplete(_ rest: Substring) -> Bool {
        rest.hasPrefix(" --state-dir ") || rest.hasPrefix(" -c ")
    }

    /// A command as far as its options can follow it.
    private struct Command {
        let text: String
        var needsStop = false
        var readsConfiguration = true

        init?(at rest: Substring) {
            let words = rest.prefix { $0 != "\n" }.split(
                separator: " ", omittingEmptySubsequences: false
            ).prefix(6).map(String.init)
            func isWord(_ index: Int, _ word: String) -> Bool {
                index < words.count && words[index].withoutPunctuation == word
            }
            let count: Int
            if words.count > 5, words[1] == "position", words[2] == "set", isWord(5, "--yes") {
                (count, needsStop) = (6, true)
            } else if words.count > 3, words[1] == "drop", isWord(3, "--yes") {
                // What is configured is refused beside a daemon: a start behind it would begin the
                // pipeline anew.
                count = 4
            } else if words.count > 3, words[1] == "gap", words[2] == "resolve" {
                count = 4
            } else if isWord(1, "stop") {
                (count, readsConfiguration) = (2, false)
            } else if isWord(1, "start") || isWord(1, "status") {
                count = 2
            } else {
                return nil
            }
            text = words.prefix(count).joined(separator: " ").withoutPunctuation
        }
    }
}

extension String {
    /// Of a sentence that goes on or ends behind a command.
    fileprivate var withoutPunctuation: String {
        var end = endIndex
        while end > startIndex, ".,;:)".contains(self[index(before: end)]) {
            end = index(before: end)
        }
        return String(self[..<end])
    }
}
