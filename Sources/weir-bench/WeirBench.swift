import Foundation
import Glibc
import WeirTesting

/// Measures Weir beside the limit of the same machine, in one run. See `Arguments.help`.
@main
struct WeirBench {
    static func main() async {
        // A reader of our output that has gone away is an error of that write, not our end.
        signal(SIGPIPE, SIG_IGN)
        do {
            if let loop = ChangeLoop(arguments: CommandLine.arguments.dropFirst()) {
                return try loop.run()
            }
            let arguments = try Arguments(CommandLine.arguments.dropFirst())
            switch arguments.action {
            case .showHelp: print(Arguments.help)
            case .listCases:
                for benchmark in BenchmarkCase.all {
                    print(pad(benchmark.name, to: BenchmarkCase.nameWidth) + benchmark.summary)
                }
            case .measure:
                let isFine = try await measure(arguments)
                exit(isFine ? 0 : 1)
            }
        } catch let error as UsageError {
            Console.warn("error: \(error.text)\nTry: weir-bench --help")
            exit(64)
        } catch {
            Console.warn("error: \(error)")
            exit(70)
        }
    }

    /// True when every goal was met.
    private static func measure(_ arguments: Arguments) async throws -> Bool {
        RunningDaemon.killWhenInterrupted()
        let console = Console(isQuiet: arguments.printsJSON)
        let weir = try WeirProgram.besideThisProgram()
        let facts = try Machine.facts(weir)
        for fact in facts { console.line(fact) }
        if isDebugBuild {
            Console.warn(
                "WARNING: THIS IS A DEBUG BUILD. ITS FIGURES MEAN NOTHING. "
                    + "Build with: swift build -c release")
        }
        let session = Session(
            weir: weir, console: console, rows: arguments.rows, rounds: arguments.rounds)
        var reports: [CaseReport] = []
        for benchmark in arguments.cases {
            console.line("\n\(benchmark.name): \(benchmark.summary)")
            let report = try await benchmark.run(session)
            for figure in report.figures { console.line("  " + figure.text) }
            reports.append(report)
        }
        let result = BenchmarkReport(
            machine: facts, isDebugBuild: isDebugBuild, rounds: arguments.rounds, cases: reports)
        let goals = result.goalLines.isEmpty ? "no goals" : "Goals"
        console.line("\n\(goals)" + (isDebugBuild ? " (DEBUG BUILD)" : ""))
        for line in result.goalLines { console.line(line) }
        if arguments.printsJSON { print(try result.json()) }
        return result.isEveryGoalMet
    }

    /// Both programs come from one build folder, so what we are, `weir` is.
    private static var isDebugBuild: Bool {
        #if DEBUG
            true
        #else
            false
        #endif
    }
}
