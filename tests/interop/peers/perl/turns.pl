# For each line, a foreground job by the same client; prints its result, or "lost".
# perl turns.pl SERVERS FUNCTION
use strict;
use warnings;
use Gearman::Client;

my ($servers, $function) = @ARGV;
my $client = Gearman::Client->new(job_servers => [split /,/, $servers]);
$| = 1;
while (my $line = <STDIN>) {
    chomp $line;
    my $result = eval { $client->do_task($function, \$line) };  # it dies where a server was lost
    print $result ? $$result : "lost", "\n";
}
