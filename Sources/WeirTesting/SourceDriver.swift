public import WeirCore

/// Drives one source as the engine does: pull, remember `end`, open again there. A connector's
/// harness is a subclass that reads what it checks from the batches.
open class SourceDriver<Source: SourceConnector & SourceMarker> {
    public let source: Source

    /// Of the last `open`.
    public private(set) var start: SourceStart?
    /// Behind the last batch: where the engine opens again after an outage.
    public private(set) var stored: StoredPosition?
    /// The last place where a restart may resume.
    public private(set) var resume: Position?
    public private(set) var batch = EventBatch()

    public init(_ source: Source) { self.source = source }

    /// Opens at `position`, at the last batch's end when nil, for the first time when there is
    /// none.
    @discardableResult
    public func open(at position: Position? = nil) async throws -> SourceStart {
        try await open(
            atStored: stored.map {
                StoredPosition(position: position ?? $0.position, identity: $0.identity)
            })
    }

    @discardableResult
    open func open(atStored at: StoredPosition?) async throws -> SourceStart {
        await source.close()
        let start = try await source.open(at: at)
        opened(start)
        return start
    }

    /// For a harness with its own way to open.
    public func opened(_ start: SourceStart) {
        self.start = start
        stored = StoredPosition(position: start.position, identity: start.identity)
    }

    /// One batch.
    @discardableResult
    public func readBatch(
        within limit: Duration = .milliseconds(50), events: Int = 8192, bytes: Int = 512 << 10
    ) async throws -> EventBatch {
        let builder = BatchBuilder(reusing: EventBatch(), eventLimit: events, byteLimit: bytes)
        batch = try await source.read(into: builder, within: limit)
        if let end = batch.end, let identity = stored?.identity {
            stored = StoredPosition(position: end, identity: identity)
        }
        resume = batch.resume ?? resume
        return batch
    }

    /// Reads until all is there that `isDone` asks for.
    ///
    /// - Parameter next: reads one batch as what the test looks at.
    public func read<Element>(
        until what: String, within limit: Duration,
        _ isDone: ([Element]) throws -> Bool, next: () async throws -> [Element]
    ) async throws -> [Element] {
        var all: [Element] = []
        let deadline = ContinuousClock.now + limit
        repeat {
            all += try await next()
            if try isDone(all) { return all }
        } while ContinuousClock.now < deadline
        throw TestingError("not read within \(limit): \(what); got \(all)")
    }

    /// A position at or behind everything that was committed before the call.
    public func mark() async throws -> Position {
        guard let marker = try await source.mark() else { throw TestingError("no marker") }
        return marker
    }

    /// Whether the last batch reached `position`.
    public func hasReached(_ position: Position) -> Bool {
        batch.resume.map { $0 >= position } ?? false
    }
}
