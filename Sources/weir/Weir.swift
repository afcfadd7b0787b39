import ArgumentParser
import Glibc
import WeirCore

@main
struct Weir: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "weir",
        abstract: "Delivers every change of a database to the places that need it.",
        discussion: """
            One JSON file describes pipelines; `weir start` runs them in the background, and
            `weir status` tells how far behind they are and what is wrong.
            """,
        version: weirVersion,
        subcommands: [
            RunCommand.self, StartCommand.self, StopCommand.self, StatusCommand.self,
            ValidateCommand.self, TailCommand.self, PositionCommand.self, GapCommand.self,
            DropCommand.self, SchemaCommand.self,
            ExplainCommand.self, VersionCommand.self,
        ])

    static func main() async {
        ProcessSetup.begin()
        // A reader of our output that has gone away is an error of that write, not our end.
        signal(SIGPIPE, SIG_IGN)
        // So is a file that may not grow any more (RLIMIT_FSIZE): retried, as a full disk is.
        signal(SIGXFSZ, SIG_IGN)
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch let failure as Failure {
            failure.printToStderr()
            Glibc.exit(failure.exitCode.rawValue)
        } catch {
            exit(withError: error)
        }
    }
}

/// Of this build.
let weirVersion = "0.1.0"
