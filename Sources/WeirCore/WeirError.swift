/// What the engine does about an error. The only thing it branches on.
public enum Disposition: String, Sendable {
    /// Retry with back-off.
    case transient
    /// Transient, but the sink lost events it had accepted: the pipeline goes back to its last
    /// checkpoint.
    case rewind
    /// Needs an operator: this pipeline stops, the others go on.
    case blocked
    /// The sink refuses some events; without a dead-letter store the pipeline stops.
    case rejected
    /// The source no longer has what comes next: a declared gap, never skipped silently.
    case positionLost
    /// Our own broken invariant.
    case bug
}

/// A stable, dotted name for one kind of error, explained by `weir explain`.
public struct ErrorCode: Sendable, Hashable, CustomStringConvertible {
    public let name: String
    /// What it means, in one or two sentences.
    public let meaning: String
    /// What the operator does about it.
    public let remedy: String

    public init(_ name: String, meaning: String, remedy: String) {
        self.name = name
        self.meaning = meaning
        self.remedy = remedy
    }

    /// The remedy with the pipeline's name in its commands, so that they can be pasted.
    public func remedy(for pipeline: String) -> String {
        remedy.replacing("PIPELINE", with: pipeline)
    }

    public static func == (left: ErrorCode, right: ErrorCode) -> Bool { left.name == right.name }
    public func hash(into hasher: inout Hasher) { hasher.combine(name) }
    public var description: String { name }
}

/// The one error type of Weir. Worded like PostgreSQL's own: a lower-case message without a period,
/// detail and hint as sentences. Holds no row values and no credentials.
public struct WeirError: Error, Sendable, CustomStringConvertible {
    public let code: ErrorCode
    public let disposition: Disposition
    public let message: String
    public var detail: String?
    /// What to do, ideally a command or SQL to paste.
    public var hint: String?
    /// The part of the pipeline it happened in: a sink's name, or nil for the source.
    public var component: String?

    public init(
        _ code: ErrorCode,
        _ disposition: Disposition,
        _ message: String,
        detail: String? = nil,
        hint: String? = nil
    ) {
        self.code = code
        self.disposition = disposition
        self.message = message
        self.detail = detail
        self.hint = hint
    }

    public var description: String {
        var text = "\(code.name): \(message)"
        if let detail { text += "\n  \(detail)" }
        if let hint { text += "\n  \(hint)" }
        return text
    }
}

extension ErrorCode {
    public static let cancelled = ErrorCode(
        "weir.cancelled",
        meaning: "The work was cut short because the daemon is stopping.",
        remedy: "Nothing: it is taken up again at the next start."
    )
    public static let bug = ErrorCode(
        "weir.bug",
        meaning: "Weir met a state that its own rules exclude.",
        remedy: "Report it with the message. The pipeline stopped so that no data is at risk."
    )

    /// The codes every Weir program knows; connectors add their own in their descriptor.
    public static let core: [ErrorCode] = [.cancelled, .bug]
}
