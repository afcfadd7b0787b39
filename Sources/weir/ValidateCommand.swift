import ArgumentParser
import Glibc
import WeirConfig

struct ValidateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "validate",
        abstract: "Check the configuration file without connecting anywhere.")

    @OptionGroup var config: ConfigOptions
    /// Not needed here, but scripts give every command the same two options.
    @OptionGroup var state: StateOptions
    @Argument(help: "The file to check, or - for standard input.") var file: String?

    func run() throws {
        let loader = ConfigLoader(descriptors: connectors)
        let path = file ?? config.path
        let check =
            path == "-"
            ? loader.check(bytes: Self.readStandardInput(), fileName: "stdin")
            : loader.load(path: path)
        let text = check.rendered(colored: isColored(STDERR_FILENO), outcome: nil)
        guard let configuration = check.configuration else { throw Failure(.configuration, text) }
        if !text.isEmpty { printError(text) }
        let pipelines = configuration.pipelines.count
        let sinks = configuration.pipelines.reduce(0) { $0 + $1.sinks.count }
        print(
            "\(path): ok, \(pipelines) pipeline\(pipelines == 1 ? "" : "s"), "
                + "\(sinks) sink\(sinks == 1 ? "" : "s")")
    }

    /// One byte more than the loader takes is enough for it to refuse the rest.
    private static let inputBytesMax = 4 << 20 | 1

    private static func readStandardInput() -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while bytes.count < inputBytesMax {
            let count = unsafe read(STDIN_FILENO, &buffer, buffer.count)
            if count <= 0 { break }
            bytes += buffer[..<count]
        }
        return bytes
    }
}
