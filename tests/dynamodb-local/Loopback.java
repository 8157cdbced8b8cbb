import com.amazonaws.services.dynamodbv2.local.main.ServerRunner;
import com.amazonaws.services.dynamodbv2.local.server.DynamoDBProxyServer;
import java.io.PrintStream;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;

/**
 * Starts DynamoDB Local in memory on a free port of loopback and prints that port. By itself it would listen on every
 * interface, as a server that believes any credentials. It runs until its standard input ends, so it never outlives
 * what started it.
 */
final class Loopback {
    public static void main(String[] arguments) throws Exception {
        // The server announces itself on standard output, which is for the port alone.
        PrintStream out = System.out;
        System.setOut(System.err);
        DynamoDBProxyServer local =
            ServerRunner.createServerFromCommandLineArgs(new String[] {"-inMemory", "-disableTelemetry"});
        var field = DynamoDBProxyServer.class.getDeclaredField("server");
        field.setAccessible(true);
        var connector = (ServerConnector) ((Server) field.get(local)).getConnectors()[0];
        connector.setHost("127.0.0.1");
        connector.setPort(0);
        local.start();
        if (connector.getLocalPort() <= 0) {
            throw new IllegalStateException("DynamoDB Local did not start to listen");
        }
        out.println(connector.getLocalPort());
        while (System.in.read() >= 0) {}
        System.exit(0);
    }
}
