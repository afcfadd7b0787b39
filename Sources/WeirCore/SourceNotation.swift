/// How a source writes what only it can read: positions, for people and in the ids of events, what
/// an update changed, and what it keeps.
public struct SourceNotation: Sendable {
    /// What the ids of its events begin with, such as `pg`.
    public let idPrefix: String
    /// What the position in an event's id begins with, such as a resume token's first digits. Then
    /// it is `idHead`, the high number and the tail; else the position's text.
    public let idHead: String?
    /// As the source's own tools show it. It may leave out what only tells neighbours apart.
    public let display: @Sendable (Position) -> String
    /// Reads `Event.Detail.changes`: whether an update may have touched one of these fields.
    public let mayTouch: @Sendable (RawSpan, FieldNames) -> Bool
    /// The words for its `SourceRetention`.
    public let retention: RetentionWords

    /// - Parameter mayTouch: for a source whose events have `Event.Detail.changes`.
    public init(
        idPrefix: String, idHead: String? = nil, retention: RetentionWords = .plain,
        mayTouch: @escaping @Sendable (RawSpan, FieldNames) -> Bool = { _, _ in true },
        display: @escaping @Sendable (Position) -> String
    ) {
        self.idPrefix = idPrefix
        self.idHead = idHead
        self.retention = retention
        self.mayTouch = mayTouch
        self.display = display
    }

    /// Whether `display` leaves out a part of positions, which `exact` then has.
    public var hasLongForm: Bool { idHead != nil }

    /// The position without loss, as ids of events have it and an operator may write it.
    public func exact(_ position: Position) -> String {
        guard let idHead else { return position.text }
        return idHead + Position.hex(position.high, digits: 16) + position.tail
    }

    /// For a type of source that this program does not have.
    public static let unknown = SourceNotation(idPrefix: "event", display: \.text)
}

/// How a source speaks of what it keeps for a pipeline.
public struct RetentionWords: Sendable {
    /// What holds on to its log or reads it, such as `slot`, and the same in full.
    public let holder: String
    public let holderInFull: String
    /// The log, such as `WAL`.
    public let log: String
    /// What the holder's status is called; nil where it speaks for itself.
    public let status: String?
    /// Why it may not be known how far the log reaches back.
    public let unknown: String?
    /// What to do where nothing limits what is kept.
    public let unlimited: String?

    public init(
        holder: String, inFull: String, log: String, status: String? = nil,
        unknown: String? = nil, unlimited: String? = nil
    ) {
        self.holder = holder
        holderInFull = inFull
        self.log = log
        self.status = status
        self.unknown = unknown
        self.unlimited = unlimited
    }

    public static let plain = RetentionWords(holder: "stream", inFull: "stream", log: "log")
}
