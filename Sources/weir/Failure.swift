import Glibc
import WeirConfig
import WeirCore

/// How `weir` ends: sysexits(3), of which README.md says which command uses which.
enum WeirExit: Int32 {
    case ok = 0
    case usage = 64
    case badData = 65
    case unavailable = 69
    case bug = 70
    case temporary = 75
    case permission = 77
    case configuration = 78
}

/// An error that ends a command: what stderr says and how the process exits.
struct Failure: Error {
    let exitCode: WeirExit
    let text: String

    init(_ exitCode: WeirExit, _ text: String) {
        self.exitCode = exitCode
        self.text = text
    }

    init(_ error: WeirError) {
        text = "error " + VisibleText.ofLines(Hints.completed(error.description))
        exitCode = WeirExit(error)
    }

    func printToStderr() { printError(text) }
}

extension WeirExit {
    init(_ error: WeirError) {
        switch error.disposition {
        case .transient, .rewind: self = .temporary
        case .bug: self = .bug
        case .rejected: self = .badData
        case .blocked, .positionLost:
            self = error.code.name.hasSuffix(".permission") ? .permission : .unavailable
        }
    }
}

/// A line for people; stdout is for data.
func printError(_ text: String) {
    let bytes = Array((text.hasSuffix("\n") ? text : text + "\n").utf8)
    _ = unsafe write(STDERR_FILENO, bytes, bytes.count)
}

/// Data, unbuffered, so that it is out before whatever comes next.
func printData(_ text: String) {
    let bytes = Array(text.utf8)
    _ = unsafe write(STDOUT_FILENO, bytes, bytes.count)
}

/// Whether a stream may have colours: a terminal, and nobody said no.
func isColored(_ descriptor: Int32) -> Bool {
    isatty(descriptor) == 1 && environment("NO_COLOR") == nil
}
