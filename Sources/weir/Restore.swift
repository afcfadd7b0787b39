import WeirConfig
import WeirCore
import WeirEngine

extension ConfigOptions {
    /// Makes plans of pipelines that only the state remembers, with the connections of the file.
    var restore: OrphanWatch.Restore {
        let path = path
        return OrphanWatch.Restore(
            notation: { .of($0) },
            plan: { (name, settings) throws(WeirError) in
                do throws(ConfigIssue) {
                    return try ConfigLoader(descriptors: connectors)
                        .restore(name, settings, connectionsOf: path).plan
                } catch {
                    throw WeirError(
                        .dropIncomplete, .blocked, error.message,
                        hint: "When that is put right, or what it keeps was removed by hand: "
                            + "weir drop \(name) --yes, with --forget where it stays out of reach.")
                }
            })
    }
}

extension SourceNotation {
    /// Of a type of source.
    static func of(_ type: String?) -> SourceNotation {
        connectors.first { $0.type == type }?.source?.notation ?? .unknown
    }
}
