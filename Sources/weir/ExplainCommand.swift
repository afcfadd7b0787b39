import ArgumentParser
import WeirConfig
import WeirCore
import WeirEngine

struct ExplainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain", abstract: "Explain an error code, or list them all.")

    @Argument(help: "A code such as postgres.slot_missing.") var code: String?

    /// Everything any part of this binary can report, each once.
    static var allCodes: [ErrorCode] {
        ErrorCode.core + ErrorCode.engine + ConfigErrorCode.all
            + connectors.flatMap(\.errorCodes)
    }

    func run() throws {
        guard let code else {
            for known in Self.allCodes.sorted(by: { $0.name < $1.name }) { print(known.name) }
            return
        }
        guard let known = Self.allCodes.first(where: { $0.name == code }) else {
            let near = Self.allCodes.map(\.name).nearest(to: code)
            let hint = near.map { " Did you mean \"\($0)\"?" } ?? " weir explain lists them all."
            throw Failure(.usage, "error: there is no code \"\(code)\".\(hint)")
        }
        print("\(known.name)\n\n\(known.meaning)\n\nWhat to do: \(known.remedy)")
    }
}
