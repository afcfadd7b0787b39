import Glibc
import Logging
import WeirConfig
import WeirCore
import WeirEngine

/// Where log lines go and how they look: stderr, in the form its reader understands best.
///
/// Text for a terminal; logfmt with a priority for the journal; else one JSON object per line.
/// Values are escaped, so that a record is always one line.
struct LogOutput: LogHandler {
    enum Form: Sendable {
        case text(isColored: Bool)
        case logfmt, json
    }

    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level
    private let form: Form

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    static func bootstrap(_ settings: DaemonSettings) {
        let form = form(settings.log)
        let level: Logger.Level =
            switch settings.logLevel {
            case .debug: .debug
            case .info: .info
            case .warning: .warning
            case .error: .error
            }
        LoggingSystem.bootstrap { _ in LogOutput(logLevel: level, form: form) }
    }

    private init(logLevel: Logger.Level, form: Form) {
        self.logLevel = logLevel
        self.form = form
    }

    private static func form(_ chosen: DaemonSettings.LogFormat) -> Form {
        switch chosen {
        case .text: return .text(isColored: isColored(STDERR_FILENO))
        case .logfmt: return .logfmt
        case .json: return .json
        case .auto:
            if isatty(STDERR_FILENO) == 1 { return .text(isColored: isColored(STDERR_FILENO)) }
            return environment("JOURNAL_STREAM") == nil ? .json : .logfmt
        }
    }

    func log(event: LogEvent) {
        let fields = metadata.merging(event.metadata ?? [:]) { $1 }
            .map { ($0.key, "\($0.value)") }.sorted { $0.0 < $1.0 }
        let message = Hints.completed("\(event.message)", besideDaemon: true)
        switch form {
        case .text(let isColored): printError(text(event.level, message, fields, isColored))
        case .logfmt: printError(logfmt(event.level, message, fields))
        case .json: printError(json(event.level, message, fields))
        }
    }

    /// `12:01:02 warning shop: message`; the lines of a long message are indented below it.
    private func text(
        _ level: Logger.Level, _ message: String, _ fields: [(String, String)], _ isColored: Bool
    ) -> String {
        let time = ISOTime.text(WallClock.micros()).dropFirst(11).prefix(8)
        let place = fields.map(\.1).joined(separator: "/")
        let name = level == .info ? "" : "\(level) "
        let head = "\(time) \(name)\(place.isEmpty ? "" : place + ": ")"
        let shown = Self.visible(message)
        guard isColored, level >= .warning else { return head + shown }
        return "\u{1B}[\(level >= .error ? 31 : 33)m\(head)\u{1B}[0m\(shown)"
    }

    private func logfmt(
        _ level: Logger.Level, _ message: String, _ fields: [(String, String)]
    ) -> String {
        // Priorities of syslog(3), as the journal reads them.
        let priority =
            switch level {
            case .trace, .debug: 7
            case .info: 6
            case .notice: 5
            case .warning: 4
            case .error: 3
            case .critical: 2
            }
        let pairs = fields.map { " \($0.0)=\(Self.quoted($0.1))" }.joined()
        return "<\(priority)>level=\(level) msg=\(Self.quoted(message))\(pairs)"
    }

    private func json(
        _ level: Logger.Level, _ message: String, _ fields: [(String, String)]
    ) -> String {
        let time = ISOTime.text(WallClock.micros())
        let pairs = fields.map { ",\(Self.quoted($0.0)):\(Self.quoted($0.1))" }.joined()
        return
            "{\"time\":\"\(time)\",\"level\":\"\(level)\",\"msg\":\(Self.quoted(message))\(pairs)}"
    }

    /// A JSON string, which is a logfmt value as well.
    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case let acting where ForeignText.acts(acting):
                result += ForeignText.escape(of: acting)
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }

    /// What acts on a terminal is named instead, but for line ends: a server's message must not
    /// paint the operator's screen.
    private static func visible(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            if scalar == "\n" {
                result += "\n         "
            } else if ForeignText.acts(scalar) {
                result += ForeignText.name(of: scalar)
            } else {
                result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
