import Glibc
import Synchronization
import WeirCore

/// Commands in hints, with the file and the state directory that this command was given.
enum Hints {
    private struct Places {
        /// Nil where a plain command finds the same.
        var configuration: String?
        var stateDirectory: String?
    }

    private static let places = Mutex(Places())

    static func use(configuration path: String) {
        let place = elsewhere(path, than: ConfigOptions.systemPath)
        places.withLock { $0.configuration = place }
    }

    static func use(stateDirectory path: String) {
        let place = elsewhere(path, than: StateOptions.defaultPath)
        places.withLock { $0.stateDirectory = place }
    }

    /// For a log: who reads it may be another user, for whom a plain command finds others.
    static func nameBoth(configuration: String, stateDirectory: String) {
        places.withLock {
            $0.configuration = absolute(configuration)
            $0.stateDirectory = absolute(stateDirectory)
        }
    }

    /// A file of the current folder is named: who pastes a hint may be in another one.
    ///
    /// - Parameter configuration: what a daemon runs, where that is known.
    static func commands(of configuration: String? = nil) -> OperatorCommands {
        let places = places.withLock { $0 }
        return OperatorCommands(
            configuration: configuration.map(absolute) ?? places.configuration,
            stateDirectory: places.stateDirectory)
    }

    static func completed(_ text: String, besideDaemon: Bool = false) -> String {
        commands().completed(text, besideDaemon: besideDaemon)
    }

    private static func elsewhere(_ path: String, than plain: String) -> String? {
        resolved(path) == resolved(plain) ? nil : absolute(path)
    }
}
