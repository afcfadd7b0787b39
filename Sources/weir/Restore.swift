import WeirConfig
import WeirCore
import WeirEngine

extension ConfigOptions {
    /// Makes plans of pipelines that only the state remembers, with the connections of the file.
    var restore: OrphanWatch.Restore {
        let path = path
        return { name, settings in
            ConfigLoader(descriptors: connectors)
                .restore(name, settings, connectionsOf: path)?.plan
        }
    }
}
