/// What a pipeline's sink writes to.
protocol Destination: Sendable {
    /// The members of "connections" that the sink needs, each with a comma before it.
    var connections: String { get }
    /// The sink in the configuration.
    var sink: String { get }
}

extension OutputFile: Destination {
    var connections: String { "" }
    var sink: String { #"{ "type": "file", "path": "\#(path)" }"# }
}
