package import WeirCore

/// Takes everything and keeps nothing: to measure a source, or to try a configuration.
///
/// The smallest sink there is; read it first when you write one.
package actor BlackholeSink: SinkConnector {
    package struct Config: ConnectorConfig {
        package static let fields = Routing.fields
        package static var passingKeys: Set<String> { Set(fields.map(\.name)) }
        let routing: Routing
        package init(_ scope: ConfigScope) throws(ConfigIssue) { routing = try Routing(scope) }
    }

    private let config: Config
    package init(_ config: Config, _ context: ConnectorContext) { self.config = config }

    package func open(at mark: SinkMark?) -> SinkMark? { nil }

    package func write(_ batches: [EventBatch]) -> WriteOutcome {
        var taken = 0
        for batch in batches {
            taken += batch.events.count { event in
                config.routing.takes(event.operation, of: batch.tables[Int(event.table)])
            }
        }
        let all = batches.reduce(0) { $0 + $1.events.count }
        return WriteOutcome(.durable, delivered: taken, filtered: all - taken)
    }

    package func flush() {}
    package func close() {}
}
