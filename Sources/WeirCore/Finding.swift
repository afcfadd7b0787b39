/// One thing about a source or a target that its operator should know: what a check found at start,
/// or what changed later.
///
/// Code and subject together identify it. The engine logs a finding once and shows it in `status`
/// for as long as it stands; a `blocking` one stops the pipeline.
public struct Finding: Sendable, Equatable {
    public enum Severity: String, Sendable, Codable {
        /// Events go on, but something is left out or will fail later.
        case warning
        /// Going on would lose or damage data, or cannot work.
        case blocking
    }

    public let code: ErrorCode
    public let severity: Severity
    /// The table, column, slot or key it is about, as the configuration or the server names it.
    public let subject: String
    /// Worded as an error's: lower case, no period.
    public let message: String
    public var detail: String?
    /// What to do, ideally a command or SQL to paste.
    public var hint: String?

    public init(
        _ code: ErrorCode,
        _ severity: Severity,
        _ subject: String,
        _ message: String,
        detail: String? = nil,
        hint: String? = nil
    ) {
        self.code = code
        self.severity = severity
        self.subject = subject
        self.message = message
        self.detail = detail
        self.hint = hint
    }
}

extension WeirError {
    /// What a blocking finding stops a pipeline with.
    public init(_ finding: Finding) {
        self.init(
            finding.code, .blocked, finding.message, detail: finding.detail, hint: finding.hint)
    }
}

/// Changes, or rows, that a target lacks and that Weir will not deliver by itself. It is kept in
/// the state and shown in `status` until the operator says that it is closed (`weir gap resolve`).
public struct DeclaredGap: Sendable, Equatable {
    /// Why there is a gap.
    public let code: ErrorCode
    /// The table it is about; empty for all of the pipeline's.
    public let subject: String
    /// Where it begins and ends in the source's own notation; empty where that is not known.
    public let from: String
    public let to: String
    /// What is missing, worded as an error's message.
    public let message: String
    /// How to make the target whole again.
    public let hint: String

    public init(
        _ code: ErrorCode, _ subject: String = "", from: String = "", to: String = "",
        _ message: String, hint: String
    ) {
        self.code = code
        self.subject = subject
        self.from = from
        self.to = to
        self.message = message
        self.hint = hint
    }

    /// The same, up to a place: what happens again later is then another gap.
    public func upTo(_ place: String) -> DeclaredGap {
        DeclaredGap(code, subject, from: from, to: place, message, hint: hint)
    }
}

/// How a connector tells the operator what errors do not: findings that stand, and gaps.
public protocol OperatorReports: Sendable {
    /// Shows a finding until it is settled; one of the same code and subject is replaced. All
    /// findings of a connector end when it is opened again, so `open` raises those that still hold.
    func raise(_ finding: Finding)
    /// The finding no longer holds. Does nothing when it was not raised.
    func settle(_ code: ErrorCode, _ subject: String)
    /// Writes a gap down; it is on disk on return. Declaring the same gap again, before it is
    /// resolved, changes nothing.
    func declare(_ gap: DeclaredGap) async throws(WeirError)
}
